"""What was used, by buckets of time and whom it was for: out of the sums, never out of the rows."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.usage.metering import Kind
from cloister_gateway.usage.months import Months
from cloister_gateway.usage.records import BATCH, Family, Numbers, Sum, Whom, families_of
from cloister_gateway.usage.store import UsageStore

__all__ = ["Bucket", "Group", "Query", "UsageQueries"]

Width = Literal["1h", "1d"]
_DAYS = "days:"
_SECONDS: Mapping[Width, int] = {"1h": 3600, "1d": 86_400}


class Group(NamedTuple):
    """What a sum is of; None is all."""

    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    model: str | None
    batch: bool | None = None


class Query(NamedTuple):
    """What is asked.

    Attributes:
        kinds: Of which calls.
        start, end: From the bucket that has this second to before that one.
        width: Of a bucket.
        limit: The most buckets.
        group_by: The fields of `Group` that are told apart.
        users, keys, models: Only theirs; empty is all.
        batch: Only what batches did, or only what they did not; None is both.
    """

    kinds: Collection[Kind]
    start: int
    end: int
    width: Width
    limit: int
    group_by: Collection[str] = ()
    users: Collection[str] = ()
    keys: Collection[str] = ()
    models: Collection[str] = ()
    batch: bool | None = None

    @property
    def seconds(self) -> int:
        """The length of a bucket."""
        return _SECONDS[self.width]

    @property
    def is_of_all(self) -> bool:
        """Whether the sums of all projects together say it."""
        return not (self.users or self.keys) and set(self.group_by) <= {"model", "batch"}

    @property
    def is_by_project(self) -> bool:
        """Whether the sums of months of each project say it."""
        return (
            self.width == "1d"
            and not (self.users or self.keys)
            and set(self.group_by) <= {"project_id", "model", "batch"}
        )

    @property
    def needs_whom(self) -> bool:
        """Whether it must be known whom a sum is about, beside its project."""
        return bool(self.users or self.keys or self.models or set(self.group_by) - {"project_id", "batch"})

    def told(self, names: Iterable[str]) -> dict[bytes, bool | None]:
        """What kinds or families are called in sums, with and without the mark of batches as far as is asked; and what
        their sums are told apart as."""
        apart = "batch" in self.group_by
        return {
            f"{name}{BATCH if batch else ''}".encode(): batch if apart else None
            for name in names
            for batch in (False, True)
            if self.batch in {None, batch}
        }


class Bucket(NamedTuple):
    """A time, and what was used in it."""

    start: int
    end: int
    sums: Mapping[Group, Numbers]


Sums = dict[int, dict[Group, Numbers]]
"""By the start of a bucket."""


class UsageQueries:
    """Answers queries.

    Args:
        store: Has the sums.
    """

    def __init__(self, store: UsageStore) -> None:
        self._store = store
        self._months = Months(store)

    async def totals(self, query: Query) -> tuple[list[Bucket], int | None] | None:
        """The same of all projects that there ever were; None where that must be put together from theirs."""
        if self._store.has_totals and query.is_of_all:
            return await self.buckets(query, [ORGANIZATION])
        return None

    async def buckets(self, query: Query, projects: Sequence[str]) -> tuple[list[Bucket], int | None]:
        """The buckets of ``query``, oldest first, and where the next page begins, if there is one."""
        first = query.start // query.seconds * query.seconds
        starts = list(range(first, query.end, query.seconds)[: query.limit])
        more = first + len(starts) * query.seconds
        sums: Sums = {start: {} for start in starts}
        families = families_of(query.kinds)
        for part, places in _places(starts, query.width).items():
            others = projects
            if query.is_by_project and families is not None and projects != [ORGANIZATION]:
                others = await self._add_month(query, projects, part, places, families, sums)
            await self._add(query, others, part, places, sums)
        buckets = [Bucket(start, start + query.seconds, sums[start]) for start in starts]
        return buckets, more if more < query.end else None

    async def _add_month(
        self,
        query: Query,
        projects: Sequence[str],
        part: str,
        places: Mapping[bytes, int],
        families: set[Family],
        sums: Sums,
    ) -> Sequence[str]:
        """Adds what sums of a month say of projects; returns those of which they do not."""
        starts = {int(place): start for place, start in places.items()}
        asked = [sums[starts[day]] for day in range(min(starts), max(starts) + 1)]
        found, others = await self._months.of(
            projects, part.removeprefix(_DAYS), min(starts), query.told(families), by_model=query.needs_whom
        )
        whole = set(query.group_by)
        for project, model, batch, days in found:
            if query.models and model not in query.models:
                continue
            group = Group(
                project if "project_id" in whole else None, None, None, model if "model" in whole else None, batch
            )
            for here, one in zip(asked, days, strict=False):
                if one[0] and (before := here.setdefault(group, one)) is not one:
                    here[group] = Sum(*one).plus(Sum(*before))
        return others

    async def _add(
        self, query: Query, projects: Sequence[str], part: str, places: Mapping[bytes, int], sums: Sums
    ) -> None:
        """Adds what sums by kind and whom say of projects."""
        if not projects:
            return
        found = await self._store.sums(projects, [part])
        whom = await self._whom(query, found)
        kinds = query.told(query.kinds)
        whole = set(query.group_by)
        for project, _, numbers in found:
            names = whom.get(project, {})
            for name, stored in numbers.items():
                place, kind, about = name.split(b".", 2)
                start = places.get(place)
                if start is None or kind not in kinds:
                    continue
                who = names.get(about.decode()) if query.needs_whom else None
                if who is not None and not _is_asked(query, who):
                    continue
                group = _group(whole, project, who, kinds[kind])
                here = sums[start]
                one = Sum.of(stored)
                if one.requests:
                    here[group] = one.plus(Sum(*here[group])) if group in here else one

    async def _whom(
        self, query: Query, found: Sequence[tuple[str, str, dict[bytes, bytes]]]
    ) -> dict[str, dict[str, Whom]]:
        """Whom the sums are about, by project and name."""
        names: dict[str, set[str]] = {}
        if query.needs_whom:
            for project, _, numbers in found:
                names.setdefault(project, set()).update(name.split(b".", 2)[2].decode() for name in numbers)
        return {project: await self._store.whom(project, mine) for project, mine in names.items()}


def _places(starts: Sequence[int], width: Width) -> dict[str, dict[bytes, int]]:
    """Where the sums of these buckets lie: by part, the buckets by their place in it."""
    places: dict[str, dict[bytes, int]] = {}
    for start in starts:
        at = time.gmtime(start)
        if width == "1d":
            part, place = time.strftime(f"{_DAYS}%Y%m", at), at.tm_mday
        else:
            part, place = time.strftime("hours:%Y%m%d", at), at.tm_hour
        places.setdefault(part, {})[b"%d" % place] = start
    return places


def _is_asked(query: Query, who: Whom) -> bool:
    pairs = ((query.users, who.user), (query.keys, who.key_id), (query.models, who.model))
    return all(not asked or one in asked for asked, one in pairs)


def _group(fields: set[str], project: str, who: Whom | None, batch: bool | None) -> Group:
    return Group(
        project if "project_id" in fields else None,
        who.user if who is not None and "user_id" in fields else None,
        who.key_id if who is not None and "api_key_id" in fields else None,
        who.model if who is not None and "model" in fields else None,
        batch,
    )
