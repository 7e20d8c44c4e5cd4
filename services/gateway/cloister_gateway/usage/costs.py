"""What use cost: by the time of pods where an hour of their GPUs has a price, else by tokens.

The time in which a model's pods were at work is shared by those that used it, by the tokens that pods computed or wrote
for them; adapters use the pods of their base. The time in which they stood idle is nobody's, and told as such.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from cloister_gateway.limit_settings import PriceSettings
from cloister_gateway.usage.queries import Group
from cloister_gateway.usage.records import Numbers
from cloister_gateway.usage.standing_store import PodMinutes

__all__ = ["Cost", "Tariff", "UnitCost", "costs_of", "costs_results", "unit_costs", "work_of"]

_MILLION = 1_000_000


class Tariff(NamedTuple):
    """Prices, and whose pods answer for a model.

    Attributes:
        prices: By model.
        currency: Of them.
        bases: By adapter, the model whose pods serve it.
    """

    prices: Mapping[str, PriceSettings]
    currency: str
    bases: Mapping[str, str]

    def of_pods(self, model: str) -> PriceSettings | None:
        """The price of the pods that answer for ``model``, if their time has one."""
        price = self.prices.get(self.bases.get(model, model))
        return price if price is not None and price.gpu_hour else None


class Cost(NamedTuple):
    """One line.

    Attributes:
        group: Whose it is.
        item: ``MODEL, input`` or ``output``, or ``MODEL, GPU in use`` or ``GPU idle``.
        value: In the currency.
        quantity: Tokens, or hours of GPUs.
        unit: Which, in OpenAI's words.
    """

    group: Group
    item: str
    value: float
    quantity: float
    unit: str


class UnitCost(NamedTuple):
    """What the tokens of a project and model cost.

    Attributes:
        tokens: That were read and written.
        in_use: Of the time in which pods were at work, its share; or the price of its tokens.
        reserved: The same share of all the time that pods were there for it and others, idle or not.
    """

    tokens: int = 0
    in_use: float = 0.0
    reserved: float = 0.0

    def plus(self, other: "UnitCost") -> "UnitCost":
        """Both together."""
        return UnitCost(self.tokens + other.tokens, self.in_use + other.in_use, self.reserved + other.reserved)

    def body(self) -> dict[str, float | int | None]:
        """On the wire: in all, and a million tokens."""
        each = 0.0 if not self.tokens else _MILLION / self.tokens
        return {
            "tokens": self.tokens,
            "cost_in_use": round(self.in_use, 9),
            "cost_reserved": round(self.reserved, 9),
            "per_million_tokens_in_use": round(self.in_use * each, 6) if self.tokens else None,
            "per_million_tokens_reserved": round(self.reserved * each, 6) if self.tokens else None,
        }


def work_of(used: Numbers) -> int:
    """What pods did for it, in tokens: those they computed and those they wrote."""
    _, read, cached, written, *_ = used
    return max(0, read - cached) + written


def costs_of(
    sums: Mapping[Group, Numbers],
    tariff: Tariff,
    minutes: Mapping[str, PodMinutes],
    work: Mapping[str, int],
    *,
    whole: bool = True,
) -> list[Cost]:
    """The lines of a time.

    Args:
        sums: What was used in it, told apart by model.
        tariff: The prices.
        minutes: Of pods in it, by model.
        work: What pods did in it for everybody, by their model: of which the sums may be a part.
        whole: Whether the sums are everybody's. If not, what nobody used is not told.
    """
    lines: list[Cost] = []
    for group, used in sums.items():
        model = group.model or ""
        pods = tariff.of_pods(model)
        if pods is not None:
            base = tariff.bases.get(model, model)
            there = minutes.get(base, PodMinutes())
            hours = there.worked / 60 * pods.gpus * work_of(used) / max(1, work.get(base, 0))
            lines.append(Cost(group, f"{model}, GPU in use", hours * pods.gpu_hour, hours, "duration_hours"))
            continue
        price = tariff.prices.get(model)
        if price is not None:
            _, read, _, written, *_ = used
            for name, tokens, each in (("input", read, price.input), ("output", written, price.output)):
                lines.append(Cost(group, f"{model}, {name}", tokens * each / _MILLION, tokens, "tokens"))
    for model, there in minutes.items() if whole else ():
        pods = tariff.of_pods(model)
        if pods is not None:
            # (Pods that worked for what is in no sum, such as an answer that is not settled yet, did not idle.)
            left = there.there - there.worked if work.get(model) else there.there
            hours = left / 60 * pods.gpus
            nobody = Group(None, None, None, model)
            lines.append(Cost(nobody, f"{model}, GPU idle", hours * pods.gpu_hour, hours, "duration_hours"))
    return lines


def unit_costs(
    sums: Mapping[Group, Numbers], tariff: Tariff, minutes: Mapping[str, PodMinutes], work: Mapping[str, int]
) -> dict[Group, UnitCost]:
    """The same of each group, as `costs_of` has it: what its tokens cost in use, and with their share of idle pods."""
    found: dict[Group, UnitCost] = {}
    for cost in costs_of(sums, tariff, minutes, work, whole=False):
        used = sums[cost.group]
        reserved = cost.value
        if cost.unit == "duration_hours":
            base = tariff.bases.get(cost.group.model or "", cost.group.model or "")
            there = minutes.get(base, PodMinutes())
            reserved *= there.there / there.worked if there.worked else 0.0
        before = found.get(cost.group)
        tokens = 0 if before is not None else used[1] + used[3]
        one = UnitCost(tokens, cost.value, reserved)
        found[cost.group] = one if before is None else before.plus(one)
    return found


def costs_results(lines: Collection[Cost], fields: Collection[str], currency: str) -> list[dict[str, Any]]:
    """``organization.costs.result`` of the lines of a bucket, told apart by ``fields``."""
    found: dict[tuple[str | None, ...], tuple[float, float, str]] = {}
    for (project, user, key, *_), item, value, quantity, unit in lines:
        whose = (project, user, key, item if "line_item" in fields else None)
        before, had, _ = found.get(whose, (0.0, 0.0, unit))
        found[whose] = (before + value, had + quantity, unit)
    return [
        {
            "object": "organization.costs.result",
            "amount": {"value": round(value, 9), "currency": currency.lower()},
            "line_item": item,
            "project_id": project,
            "user_id": user,
            "api_key_id": key,
            "quantity": None if item is None else round(quantity, 9),
            "quantity_unit": None if item is None else unit,
        }
        for (project, user, key, item), (value, quantity, unit) in found.items()
    ]
