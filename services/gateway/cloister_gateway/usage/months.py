"""Sums by day of many projects at once: out of their months, of which each is a few strings of numbers.

What is told apart by users or keys is read from the sums of each day, kind and whom instead, of which there are as many
as users. That made a month of a thousand projects take a second.
"""

import asyncio
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import NamedTuple

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.usage.records import Numbers
from cloister_gateway.usage.store import UsageStore

__all__ = ["Months", "OfModel"]

_TOGETHER = 200
"""Projects read in one round trip; others get their turn between two."""
_NUMBERS = 5
_SINCE = b"since"


class OfModel(NamedTuple):
    """What a project used of a model, or of all of them.

    Attributes:
        project, model: These.
        batch: Whether batches did; None where that is not told apart.
        days: Five numbers for each day of the month, from the first that is asked to the last of which there are any.
    """

    project: str
    model: str | None
    batch: bool | None
    days: Iterable[Numbers]


class Months:
    """Reads months.

    Args:
        store: Has them.
    """

    def __init__(self, store: UsageStore) -> None:
        self._store = store

    async def of(
        self,
        projects: Sequence[str],
        month: str,
        first_day: int,
        families: Mapping[bytes, bool | None],
        *,
        by_model: bool,
    ) -> tuple[list[OfModel], list[str]]:
        """What projects used from a day of a month (``YYYYMM``) on, told apart by model where that is asked.
        ``families`` are named as in the fields of months, each with what it is told apart as.

        Returns:
            That, and the projects of which sums by day have to be read instead: the version before may have written
            some of them.
        """
        found: list[OfModel] = []
        older: list[str] = []
        for place in range(0, len(projects), _TOGETHER):
            some = projects[place : place + _TOGETHER]
            whole = set()
            for project, sums in await self._store.months(some, month, first_day):
                if int(sums.pop(_SINCE, 0)) > first_day:
                    continue
                whole.add(project)
                names = await self._models(sums) if by_model else {}
                mine: dict[tuple[str | None, bool | None], tuple[int, ...]] = {}
                for field, raw in sums.items():
                    family, _, name = field.partition(b".")
                    if family in families:
                        what = (names.get(name), families[family])
                        mine[what] = _together(mine.get(what), raw)
                found += [OfModel(project, *what, _days(numbers)) for what, numbers in mine.items()]
            older += [project for project in some if project not in whole]
            await asyncio.sleep(0)
        return found, older

    async def _models(self, sums: Mapping[bytes, bytes]) -> dict[bytes, str]:
        whom = await self._store.whom(ORGANIZATION, {field.partition(b".")[2].decode() for field in sums})
        return {name.encode(): one.model for name, one in whom.items()}


def _together(before: tuple[int, ...] | None, raw: bytes) -> tuple[int, ...]:
    """The numbers of a month, with those of another model or family if there are some ``before``."""
    numbers: tuple[int, ...] = struct.unpack(f"<{len(raw) // 8}q", raw)
    if before is None:
        return numbers
    longer, shorter = (before, numbers) if len(before) > len(numbers) else (numbers, before)
    return (*map(add, longer, shorter), *longer[len(shorter) :])


def _days(numbers: tuple[int, ...]) -> Iterator[Numbers]:
    """By day. (Five strides put together take half of what a slice for each of 31,000 days does.)"""
    return zip(*(numbers[at::_NUMBERS] for at in range(_NUMBERS)), strict=True)
