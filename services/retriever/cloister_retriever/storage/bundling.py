"""What belongs into which bundle (`cloister_retriever.storage.bundles`).

Bundles grow as the levels of a log-structured merge tree do: what lies loose is joined with bundles that are not larger
than twice as much, so that nothing is copied again more than a few times.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeVar

__all__ = ["FEW_LOOSE", "Plan", "planned"]

FEW_LOOSE = 64
"""So many objects are read one by one."""

_BUNDLES_A_STEP = 8
"""Written at a time, so that nobody waits for a store of very many files."""

T = TypeVar("T", bound=Any)


class Plan(NamedTuple):
    """What is to be done with the bundles of a place.

    Attributes:
        groups: What is to be put into a bundle each: things with their e-tags.
        merged: Bundles whose content is among that.
        useless: Bundles of which nothing is used.
    """

    groups: Sequence[Mapping[Any, str]]
    merged: AbstractSet[str] = frozenset()
    useless: AbstractSet[str] = frozenset()


def planned(
    there: Mapping[T, str],
    can_copy: AbstractSet[T],
    bundles: Mapping[str, Mapping[T, str]],
    *,
    size: Callable[[T], int],
    most: int,
) -> Plan:
    """What to do with the bundles of a place.

    Args:
        there: What there is and is worth copying, with its e-tags. It can be sorted.
        can_copy: What of it can be copied now.
        bundles: What each bundle has, with the e-tags of that moment, by the bundle's id.
        size: How large one of these things is.
        most: How large all things of a bundle may be together.
    """

    def sum_of(things: Iterable[T]) -> int:
        return sum(map(size, things))

    live = {name: {one for one, tag in has.items() if there.get(one) == tag} for name, has in bundles.items()}
    used: dict[str, set[T]] = {}
    covered: set[T] = set()
    # Whoever else plans finds the same bundles useless.
    for name in sorted(live, key=lambda one: (-sum_of(live[one]), one)):
        if own := live[name] - covered:
            used[name] = own
            covered |= own
    useless = bundles.keys() - used.keys()
    loose = sorted(one for one in there if one not in covered and one in can_copy)
    if len(loose) <= FEW_LOOSE:
        return Plan([], useless=useless)
    groups: list[list[T]] = []
    held = 0
    for one in loose:
        if not groups or held + size(one) > most:
            groups.append([])
            held = 0
        groups[-1].append(one)
        held += size(one)
    merged: set[str] = set()
    if len(groups) < _BUNDLES_A_STEP:
        last = groups[-1]
        for name in sorted(used, key=lambda one: (sum_of(used[one]), one)):
            more, much = sum_of(used[name]), sum_of(last)
            if more > 2 * much or more + much > most or not used[name] <= can_copy:
                break
            last += used[name]
            merged.add(name)
    return Plan([{one: there[one] for one in group} for group in groups[:_BUNDLES_A_STEP]], merged, useless)
