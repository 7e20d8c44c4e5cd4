"""Which limits there are for a generation: those of the settings, and those that administrators set.

A limit is what it is about (`Bound`), and how much. What counts for it is known by what it is about alone, so that
another amount goes on from what was used, and two rules about the same share one count: the least of them holds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cloister_gateway.history_settings import PolicyName
from cloister_gateway.limit_settings import LimitRule

__all__ = [
    "MILLIONTHS",
    "UNBOUNDED",
    "Bound",
    "Granted",
    "HistoryPolicy",
    "Level",
    "Period",
    "SpendAlert",
    "Unit",
    "Whom",
    "bounds_of",
]

Level = Literal["organization", "project", "user", "key"]
Period = Literal["minute", "day", "month"]
Unit = Literal["requests", "tokens", "input_tokens", "output_tokens", "spend", "running"]

MILLIONTHS = 1_000_000
"""Money is counted in millionths of the currency: of a price for a million tokens, each token costs as many of them."""

_COUNTED: tuple[Unit, ...] = ("requests", "tokens", "input_tokens", "output_tokens", "spend", "running")


class Whom(NamedTuple):
    """Whom a generation counts for."""

    project: str
    user: str
    key: str
    model: str


class Bound(NamedTuple):
    """What a limit is about.

    Attributes:
        level: Whose use is counted together.
        subject: Whose it is: the id, or the name of the user; empty for the organization.
        model: The model; empty for all of them together.
        unit: What is counted.
        per: Over which time; None for what runs at once.
    """

    level: Level
    subject: str
    model: str
    unit: Unit
    per: Period | None


UNBOUNDED = 10**15
"""Of what is counted without a limit: money that nobody spends in a month, and that Lua's numbers still hold."""


class SpendAlert(NamedTuple):
    """Money in a month of which somebody wants to know.

    Attributes:
        id: Of the alert.
        hundredths: How much, in hundredths of the currency.
        recipients: Whom it is for.
        prefix: Of the subjects of mails to them.
    """

    id: str
    hundredths: int
    recipients: tuple[str, ...]
    prefix: str | None = None


class HistoryPolicy(NamedTuple):
    """What turns of a project send of what was said before them.

    Attributes:
        policy: Which.
        tokens: Of history, at most; None with ``all`` alone.
        summary_tokens: Of a summary, at most.
    """

    policy: PolicyName = "all"
    tokens: int | None = None
    summary_tokens: int = 400


@dataclass(frozen=True, slots=True)
class Granted:
    """What administrators have set for a project, or for the organization.

    Attributes:
        models: The amounts by model, and in it by ``UNIT/PERIOD``.
        spend: Money in a month, in hundredths of the currency; None is without end.
        alerts: Oldest first.
        history: What its turns send of what was said before (`cloister_gateway.limits.history`), if that was set.
    """

    models: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    spend: int | None = None
    alerts: tuple[SpendAlert, ...] = ()
    history: HistoryPolicy | None = None

    def bounds(self, level: Level, subject: str, model: str) -> Iterator[tuple[Bound, int]]:
        """The limits for a generation of ``model``."""
        for name, most in self.models.get(model, {}).items():
            unit, _, per = name.partition("/")
            # (Written by this class alone, and sealed.)
            yield Bound(level, subject, model, unit, per), most  # type: ignore[arg-type]
        if self.spend is not None or self.alerts:
            most = UNBOUNDED if self.spend is None else self.spend * MILLIONTHS // 100
            yield Bound(level, subject, "", "spend", "month"), most


def bounds_of(
    rules: Iterable[LimitRule], granted: Granted | None, organization: Granted | None, whom: Whom
) -> dict[Bound, int]:
    """The limits that hold for a generation, and how much each allows, in the order in which they are looked at.

    Args:
        rules: Those of the settings.
        granted: What was set for the project.
        organization: What was set for all of them together.
        whom: Whom the generation counts for.
    """
    found: dict[Bound, int] = {}

    def add(bound: Bound, most: int) -> None:
        found[bound] = min(most, found.get(bound, most))

    for rule in rules:
        subject = "" if rule.level == "organization" else getattr(whom, rule.level)
        if (rule.of and subject not in rule.of) or rule.model not in {None, "*", whom.model}:
            continue
        model = "" if rule.model is None else whom.model
        for unit in _COUNTED:
            most = getattr(rule, unit)
            if most is not None:
                amount = int(most * MILLIONTHS) if unit == "spend" else most
                add(Bound(rule.level, subject, model, unit, None if unit == "running" else rule.per), amount)
    if granted is not None:
        for bound, most in granted.bounds("project", whom.project, whom.model):
            add(bound, most)
    if organization is not None:
        for bound, most in organization.bounds("organization", "", whom.model):
            add(bound, most)
    return found
