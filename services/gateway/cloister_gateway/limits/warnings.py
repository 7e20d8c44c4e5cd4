"""A word to the operator before a limit refuses, when 80, and when 95 % of it are used or reserved; and when as much
money is spent as an administrator wants to hear of."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from cloister_common.logs import get_logger
from prometheus_client import Counter

from cloister_gateway.limits.reservations import Stand
from cloister_gateway.limits.rules import MILLIONTHS, SpendAlert

__all__ = ["Warnings"]

log = get_logger(__name__)
_WARNED = Counter(
    "cloister_limit_warnings_total", "Limits that came near their end.", ["level", "unit", "per", "percent"]
)

_ALERTED = Counter("cloister_spend_alerts_total", "Spend alerts that were reached.", ["alert"])

_PERCENTS = (95, 80)
_MOST_NOTED = 50_000
_NO_ALERTS: Mapping[str, Sequence[SpendAlert]] = MappingProxyType({})


class Warnings:
    """Warns once for each limit, share and time."""

    def __init__(self) -> None:
        # By count: the share that was warned of, and when by its time that was.
        self._noted: dict[str, tuple[int, int]] = {}
        # By alert: when its month was over, by how long that was.
        self._alerted: dict[str, int] = {}

    def look(self, stands: Iterable[Stand], alerts: Mapping[str, Sequence[SpendAlert]] = _NO_ALERTS) -> None:
        """Looks at counts that have just taken something; ``alerts`` are by the key of what they are about."""
        for stand in stands:
            (key, bound, most), used, _ = stand
            if alerts:
                for alert in alerts.get(key, ()):
                    self._alert(alert, stand)
            if used * 100 < most * _PERCENTS[-1] or bound.per is None:
                continue
            percent = next(share for share in _PERCENTS if stand.used * 100 >= most * share)
            share, left = self._noted.get(stand.limit.key, (0, 0))
            if left >= stand.seconds and share >= percent:
                # The same time still: what is left of it only grows when another begins.
                self._noted[stand.limit.key] = (share, stand.seconds)
                continue
            if len(self._noted) >= _MOST_NOTED:
                self._noted.clear()
            self._noted[stand.limit.key] = (percent, stand.seconds)
            _WARNED.labels(bound.level, bound.unit, bound.per, str(percent)).inc()
            # (The name of a user is content.)
            subject = bound.subject if bound.level != "user" else None
            log.warning(
                "limit_nearly_reached",
                level=bound.level,
                subject=subject,
                model=bound.model or None,
                unit=bound.unit,
                per=bound.per,
                percent=percent,
                most=most,
            )

    def _alert(self, alert: SpendAlert, stand: Stand) -> None:
        left = self._alerted.get(alert.id, 0)
        if stand.used < alert.hundredths * MILLIONTHS // 100 or left >= stand.seconds:
            if left >= stand.seconds:
                self._alerted[alert.id] = stand.seconds
            return
        if len(self._alerted) >= _MOST_NOTED:
            self._alerted.clear()
        self._alerted[alert.id] = stand.seconds
        _ALERTED.labels(alert.id).inc()
        bound = stand.limit.bound
        # (Whom it is for is content: the administration API tells it.)
        log.warning(
            "spend_alert_reached",
            alert=alert.id,
            level=bound.level,
            subject=bound.subject,
            hundredths=alert.hundredths,
        )
