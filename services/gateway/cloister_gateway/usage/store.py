"""Usage in Redis: a sealed row for each generation, and sums by hour and day, written in one step.

A row that comes again, since an answer of Redis was lost or another gateway settles the run too, takes the place of the
one before: what that added to the sums is taken away again. So each generation is in the sums once.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import orjson
from cloister_common.vault import DataKey, Keyring, encode_context, open_record, seal
from cloister_common.vault.cache import ShortCache
from redis.asyncio import Redis

from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.limit_settings import UsageSettings
from cloister_gateway.storage.client import is_cluster
from cloister_gateway.storage.layout import USAGE, usage_key
from cloister_gateway.usage.records import BATCH, FAMILIES, Row, Sum, Times, Whom
from cloister_gateway.usage.scripts import ADD, MONTHS

__all__ = ["UsageStore"]

_DAY_SECONDS = 86_400
_DAY_BYTES = 40
"""Five numbers of eight."""
_SECONDS_KNOWN, _MOST_KNOWN = 3600.0, 50_000


class UsageStore:
    """Writes rows, and reads sums.

    Args:
        redis: Where they lie.
        keyring: Has the keys of projects, and names whom rows are about.
        settings: How long they are kept.

    Attributes:
        has_totals: Whether there are sums of all projects together, by model, under `ORGANIZATION`: not in a cluster,
            where they would lie in another slot than what they are written with.
    """

    def __init__(self, redis: Redis, keyring: Keyring, settings: UsageSettings) -> None:
        self._redis = redis
        self._keyring = keyring
        self._keep = (settings.keep_rows_days * _DAY_SECONDS, settings.keep_hours_days * _DAY_SECONDS)
        self.has_totals = not is_cluster(redis)
        self._add = redis.register_script(ADD)
        self._months = redis.register_script(MONTHS)
        self._names: ShortCache[tuple[str, bytes]] = ShortCache(seconds=_SECONDS_KNOWN, most=_MOST_KNOWN)
        self._told: set[str] = set()
        self._whom: ShortCache[Whom] = ShortCache(seconds=_SECONDS_KNOWN, most=_MOST_KNOWN)

    async def add(self, row: Row) -> None:
        """Adds a row. Doing it again changes nothing."""
        key = await self._key(row.project)
        begun = time.gmtime(row.begun)
        day, month = time.strftime("%Y%m%d", begun), time.strftime("%Y%m", begun)
        name, whom = await self._named(row.project, row.whom, key)
        rest: dict[str, Any] = {"kind": row.kind, "adapter": row.adapter, "begun": row.begun, "times": list(row.times)}
        rest |= {"used": list(row.used), "exact": row.exact, "ending": row.ending, "whom": list(row.whom)}
        rest |= {"batch": True} if row.batch else {}
        sealed = seal(key.subkey("rows"), orjson.dumps(rest), _row_context(row.project, row.id))
        where = ("rows:" + day, "sums:" + day, "hours:" + day, "days:" + month, "whom", "month:" + month)
        numbers = ",".join(str(number) for number in row.used)
        mark = BATCH if row.batch else ""
        kind = f"{row.kind}{mark}"
        places = (f"{begun.tm_hour}.{kind}.{name}", f"{begun.tm_mday}.{kind}.{name}")
        keys = [usage_key(row.project, what) for what in where]
        total, ours = await self._named(ORGANIZATION, Whom("", "", row.whom.model), await self._key(ORGANIZATION))
        first = row.begun // _DAY_SECONDS - begun.tm_mday + 1
        in_month = f"{begun.tm_mday}.{FAMILIES[row.kind]}{mark}.{total}"
        arguments: list[Any] = [row.id, sealed, numbers, *places, name, whom, *self._keep, in_month, first]
        if self.has_totals:
            keys += [usage_key(ORGANIZATION, what) for what in where[2:5]]
            arguments += [f"{begun.tm_hour}.{kind}.{total}", f"{begun.tm_mday}.{kind}.{total}", total, ours]
        else:
            await self.name_of_model(row.whom.model)  # (In another slot: said before it is used.)
        await self._add(keys=keys, args=arguments)

    async def rows(self, project: str, day: str) -> list[Row]:
        """The rows of a day (``YYYYMMDD``). Raises `VaultError` for one that is not what was written."""
        # redis-py types its asynchronous hash commands as value or awaitable.
        found: dict[bytes, bytes] = await cast("Any", self._redis.hgetall(usage_key(project, f"rows:{day}")))
        key = await self._key(project)
        rows = []
        for name, sealed in found.items():
            value = orjson.loads(open_record(key.subkey("rows"), sealed, _row_context(project, name.decode())))
            whom, used = Whom(*value.pop("whom")), Sum(*value.pop("used"))
            # (The version before knew of no time but the whole.)
            whole = value.pop("seconds", None)
            times = Times(*value.pop("times", (None, None, whole)))
            rows.append(Row(id=name.decode(), project=project, whom=whom, used=used, times=times, **value))
        return rows

    async def months(self, projects: Sequence[str], month: str, first_day: int) -> list[tuple[str, dict[bytes, bytes]]]:
        """The sums of a month (``YYYYMM``), in one round trip: of each project that has any, by ``FAMILY.NAME``,
        five numbers for each day from ``first_day`` on, and ``since`` (see `cloister_gateway.usage.scripts`). The
        names are the organization's."""
        keys = [usage_key(project, f"month:{month}") for project in projects]
        if self.has_totals:
            flat: list[list[bytes]] = await self._months(keys=keys, args=[first_day])
            found = [dict(zip(one[::2], one[1::2], strict=True)) for one in flat]
        else:
            # (In a cluster they lie in as many slots.)
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hgetall(key)
                wholes = await pipeline.execute()
            before = (first_day - 1) * _DAY_BYTES
            found = [
                {field: raw if field == b"since" else raw[before:] for field, raw in sums.items()} for sums in wholes
            ]
        return [(project, sums) for project, sums in zip(projects, found, strict=True) if sums]

    async def sums(self, projects: Sequence[str], parts: Sequence[str]) -> list[tuple[str, str, dict[bytes, bytes]]]:
        """The sums of projects, in one round trip: for each project and part (``days:YYYYMM``, ``hours:YYYYMMDD``) the
        numbers by ``PLACE.KIND.NAME``."""
        asked = [(project, part) for project in projects for part in parts]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for project, part in asked:
                pipeline.hgetall(usage_key(project, part))
            found = await pipeline.execute()
        return [(project, part, sums) for (project, part), sums in zip(asked, found, strict=True) if sums]

    async def whom(self, project: str, names: Iterable[str]) -> dict[str, Whom]:
        """Whom names of a project stand for. Raises `VaultError` for one that is not what was written."""
        known = {name: self._whom.get(f"{project} {name}") for name in names}
        unknown = [name for name, whom in known.items() if whom is None]
        if unknown:
            found: Any = await cast("Any", self._redis.hmget(usage_key(project, "whom"), unknown))
            key = await self._key(project)
            for name, sealed in zip(unknown, found, strict=True):
                whom = Whom(*orjson.loads(open_record(key.subkey("whom"), sealed or b"", _whom_context(project, name))))
                self._whom.put(f"{project} {name}", whom)
                known[name] = whom
        return {name: whom for name, whom in known.items() if whom is not None}

    async def name_of_model(self, model: str) -> str:
        """What a model is called in sums of the organization; said there, so that `whom` finds it again."""
        name, ours = await self._named(ORGANIZATION, Whom("", "", model), await self._key(ORGANIZATION))
        if name not in self._told:
            await cast("Any", self._redis.hsetnx(usage_key(ORGANIZATION, "whom"), name, cast("Any", ours)))
            self._told.add(name)
        return name

    async def _named(self, project: str, whom: Whom, key: DataKey) -> tuple[str, bytes]:
        place = "\0".join((project, *whom))
        named = self._names.get(place)
        if named is None:
            name = await self._keyring.name(project, "usage-whom", *whom)
            named = (name, seal(key.subkey("whom"), orjson.dumps(list(whom)), _whom_context(project, name)))
            self._names.put(place, named)
        return named

    async def _key(self, project: str) -> DataKey:
        return await self._keyring.obtain(project, USAGE, project)


def _row_context(project: str, generation: str) -> bytes:
    return encode_context("usage-row", project, generation)


def _whom_context(project: str, name: str) -> bytes:
    return encode_context("usage-whom", project, name)
