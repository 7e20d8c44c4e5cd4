"""Who may see what was used: administrators all of it, a caller its own."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from cloister_gateway.identity.principal import Principal
from cloister_gateway.limit_settings import LimitSettings
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.organization.service import Directory
from cloister_gateway.usage.costs import Cost, Tariff, UnitCost, costs_of, unit_costs, work_of
from cloister_gateway.usage.queries import Bucket, Group, Query, UsageQueries
from cloister_gateway.usage.standing import Standing
from cloister_gateway.usage.standing_store import PodMinutes, StandingStore

__all__ = ["Kept", "UsageService"]

_FEW = 20
"""Of so many projects it is looked at once what their vector stores keep now."""


class Kept(NamedTuple):
    """A time, and the most bytes that vector stores kept in it, by project, or under None of all of them."""

    start: int
    end: int
    bytes: Mapping[str | None, int]


class _Paid(NamedTuple):
    """A time, the minutes of pods in it by model, and what these did for everybody."""

    bucket: Bucket
    minutes: Mapping[str, PodMinutes]
    work: Mapping[str, int]


class UsageService:
    """Answers what was used, and what it cost.

    Args:
        queries: Has the sums.
        stored: Has the minutes of pods, and what vector stores keep.
        standing: Looks at these.
        directory: Knows the projects.
        catalog: Knows whose pods serve an adapter.
        settings: Gives the prices in force.
    """

    def __init__(
        self,
        queries: UsageQueries,
        stored: StandingStore,
        standing: Standing,
        directory: Directory,
        catalog: Catalog,
        settings: Callable[[], LimitSettings],
    ) -> None:
        self._queries = queries
        self._stored = stored
        self._standing = standing
        self._directory = directory
        self._catalog = catalog
        self._settings = settings

    @property
    def tariff(self) -> Tariff:
        """The prices in force."""
        settings = self._settings()
        bases = {model.name: model.base for model in self._catalog if model.base is not None}
        return Tariff(settings.prices, settings.currency, bases)

    async def of_projects(self, query: Query, projects: Collection[str]) -> tuple[Sequence[Bucket], int | None]:
        """What projects used, archived ones too; without names, all of them. As `UsageQueries.buckets`."""
        totals = None if projects else await self._queries.totals(query)
        if totals is not None:
            return totals
        return await self._queries.buckets(query, await self._asked(projects))

    async def of_caller(self, query: Query, caller: Principal) -> tuple[Sequence[Bucket], int | None]:
        """What a caller used itself, with all of its keys."""
        return await self._queries.buckets(query._replace(users=(caller.payer,)), [caller.tenant])

    async def costs(
        self, query: Query, projects: Collection[str]
    ) -> tuple[list[tuple[Bucket, list[Cost]]], int | None]:
        """What it cost, by bucket, told apart by what ``query`` groups by, and by model."""
        whole = not (projects or query.users or query.keys or query.models)
        tariff, paid, following = await self._paid(query, projects)
        return [
            (one.bucket, costs_of(one.bucket.sums, tariff, one.minutes, one.work, whole=whole)) for one in paid
        ], following

    async def unit_costs(self, query: Query, projects: Collection[str]) -> dict[Group, UnitCost]:
        """What tokens cost over all buckets of ``query`` together, by project and model."""
        tariff, paid, _ = await self._paid(query._replace(group_by=("project_id",)), projects)
        found: dict[Group, UnitCost] = {}
        for one in paid:
            for group, cost in unit_costs(one.bucket.sums, tariff, one.minutes, one.work).items():
                found[group] = found.get(group, UnitCost()).plus(cost)
        return found

    async def _paid(self, query: Query, projects: Collection[str]) -> tuple[Tariff, list[_Paid], int | None]:
        by_model = query._replace(group_by=tuple({*query.group_by, "model"}))
        buckets, following = await self.of_projects(by_model, projects)
        tariff = self.tariff
        if not any(price.gpu_hour for price in tariff.prices.values()):
            return tariff, [_Paid(bucket, {}, {}) for bucket in buckets], following
        everybody = query._replace(group_by=("model",), users=(), keys=(), models=())
        totals, _ = await self.of_projects(everybody, ())
        minutes = await self._stored.pod_minutes(_months(buckets))
        told = []
        for bucket, total in zip(buckets, totals, strict=True):
            work: dict[str, int] = {}
            for group, used in total.sums.items():
                base = tariff.bases.get(group.model or "", group.model or "")
                work[base] = work.get(base, 0) + work_of(used)
            told.append(_Paid(bucket, _within(bucket, minutes), work))
        return tariff, told, following

    async def kept(self, query: Query, projects: Collection[str]) -> tuple[list[Kept], int | None]:
        """What vector stores kept, by bucket."""
        asked = await self._asked(projects)
        if len(asked) <= _FEW and query.end > time.time():
            await asyncio.gather(*(self._standing.note_kept(project) for project in asked))
        buckets, following = await self._queries.buckets(query, [])
        by_project = "project_id" in query.group_by
        hours: dict[int, dict[str | None, int]] = {}
        for project, hour, kept in await self._stored.kept(asked, _months(buckets)):
            here, whose = hours.setdefault(hour, {}), project if by_project else None
            here[whose] = here.get(whose, 0) + kept
        told = []
        for start, end, _ in buckets:
            most: dict[str | None, int] = {}
            for hour, by_whom in hours.items():
                if start <= hour < end:
                    for whose, kept in by_whom.items():
                        most[whose] = max(kept, most.get(whose, 0))
            told.append(Kept(start, end, most))
        return told, following

    async def _asked(self, projects: Collection[str]) -> list[str]:
        known = await self._directory.project_ids()
        return [project for project in known if not projects or project in projects]


def _months(buckets: Sequence[Bucket]) -> list[str]:
    return sorted({time.strftime("%Y%m", time.gmtime(bucket.start)) for bucket in buckets})


def _within(bucket: Bucket, minutes: Mapping[int, Mapping[str, PodMinutes]]) -> dict[str, PodMinutes]:
    found: dict[str, PodMinutes] = {}
    for hour, by_model in minutes.items():
        if bucket.start <= hour < bucket.end:
            for model, more in by_model.items():
                found[model] = found.get(model, PodMinutes()).plus(more)
    return found
