"""What administrators may ask of limits: what holds for a project, and to set it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from cloister_common.errors import Conflict, InvalidRequest, NotFound
from cloister_common.ids import new_id

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.limits.rules import MILLIONTHS, Bound, Granted, SpendAlert, Whom, bounds_of
from cloister_gateway.limits.schemas import NO_LIMIT, rate_id
from cloister_gateway.limits.service import Limits
from cloister_gateway.models import Catalog

__all__ = ["LimitAdministration", "SpendLimit"]


_MOST_ALERTS = 100


class SpendLimit(NamedTuple):
    """What an owner may spend in a month, in hundredths of the currency, and whether that is reached."""

    hundredths: int
    reached: bool


class LimitAdministration:
    """Shows and sets limits.

    Args:
        limits: Those in force.
        catalog: The chat models.
    """

    def __init__(self, limits: Limits, catalog: Catalog) -> None:
        self._limits = limits
        self._catalog = catalog

    @property
    def currency(self) -> str:
        """Of all prices."""
        return self._limits.settings.currency

    def models(self, project: str) -> list[str]:
        """The models of which a project's rates are told: those it may use, and those that a limit names."""
        named = {rule.model for rule in self._limits.settings.rules.values() if rule.level == "project"}
        granted = self._limits.granted.of(project)
        chat = [model.name for model in self._catalog if model.is_for(project)]
        others = (named | set(granted.models if granted else ())) - {None, "*", *chat}
        return [*chat, *sorted(name for name in others if name is not None)]

    def rates(self, project: str, model: str) -> Mapping[str, int]:
        """How much a project may use of a model, by ``UNIT/PERIOD``: the least of all that was set."""
        bounds = bounds_of(
            self._limits.settings.rules.values(), self._limits.granted.of(project), None, Whom(project, "", "", model)
        )
        return {
            f"{bound.unit}/{bound.per}": most
            for bound, most in bounds.items()
            if (bound.level, bound.model) == ("project", model)
        }

    async def set_rates(self, project: str, name: str, rates: Mapping[str, int]) -> str:
        """Sets rates by ``UNIT/PERIOD``; returns the model. Raises `NotFound` for a name of none."""
        model = next((model for model in self.models(project) if rate_id(model) == name), None)
        if model is None:
            raise NotFound(f"The project has no rate limit '{name}'.", param="rate_limit_id")

        def change(granted: Granted) -> Granted:
            mine = {**granted.models.get(model, {}), **rates}
            mine = {rate: most for rate, most in mine.items() if most != NO_LIMIT}
            models = {other: its for other, its in granted.models.items() if other != model}
            return replace(granted, models={**models, model: mine} if mine else models)

        await self._limits.granted.change(project, change)
        return model

    async def spend_limit(self, owner: str) -> SpendLimit:
        """What ``owner`` may spend. Raises `NotFound` where nothing is set."""
        granted = self._limits.granted.of(owner)
        if granted is None or granted.spend is None:
            raise NotFound("No spend limit is set here.", param="spend_limit")
        level = "organization" if owner == ORGANIZATION else "project"
        bound = Bound(level, "" if owner == ORGANIZATION else owner, "", "spend", "month")  # type: ignore[arg-type]
        spent = await self._limits.used(owner, bound)
        return SpendLimit(granted.spend, spent >= granted.spend * MILLIONTHS // 100)

    async def set_spend_limit(self, owner: str, hundredths: int | None, *, currency: str | None = None) -> None:
        """Sets what ``owner`` may spend in a month, or takes the limit away."""
        self._check_currency(currency)
        await self._limits.granted.change(owner, lambda granted: replace(granted, spend=hundredths))

    def spend_alerts(self, owner: str) -> Sequence[SpendAlert]:
        """The alerts of ``owner``, oldest first."""
        granted = self._limits.granted.of(owner)
        return () if granted is None else granted.alerts

    def spend_alert(self, owner: str, alert_id: str) -> SpendAlert:
        """One of them. Raises `NotFound`."""
        return _alert_of(self.spend_alerts(owner), alert_id)

    async def set_spend_alert(self, owner: str, asked: SpendAlert, *, currency: str) -> SpendAlert:
        """Makes an alert, or changes the one with its id if it has one.

        Raises:
            NotFound: There is none with that id.
            Conflict: There are as many as one owner may have.
        """
        self._check_currency(currency)
        alert = asked if asked.id else asked._replace(id=new_id("alert_"))

        def change(granted: Granted) -> Granted:
            if asked.id:
                _alert_of(granted.alerts, asked.id)
                return replace(granted, alerts=tuple(alert if one.id == alert.id else one for one in granted.alerts))
            if len(granted.alerts) >= _MOST_ALERTS:
                raise Conflict(f"There are {_MOST_ALERTS} spend alerts here, the most there may be: delete one first.")
            return replace(granted, alerts=(*granted.alerts, alert))

        await self._limits.granted.change(owner, change)
        return alert

    async def delete_spend_alert(self, owner: str, alert_id: str) -> None:
        """Takes an alert away. Raises `NotFound`."""

        def change(granted: Granted) -> Granted:
            _alert_of(granted.alerts, alert_id)
            return replace(granted, alerts=tuple(one for one in granted.alerts if one.id != alert_id))

        await self._limits.granted.change(owner, change)

    def _check_currency(self, currency: str | None) -> None:
        expected = self._limits.settings.currency
        if currency is not None and currency != expected:
            raise InvalidRequest(
                f"Prices here are in {expected} ('limits.currency' of the settings). Send that as 'currency'.",
                param="currency",
                code="invalid_value",
            )


def _alert_of(alerts: Sequence[SpendAlert], alert_id: str) -> SpendAlert:
    found = next((alert for alert in alerts if alert.id == alert_id), None)
    if found is None:
        raise NotFound(f"There is no spend alert '{alert_id}' here.", param="alert_id")
    return found
