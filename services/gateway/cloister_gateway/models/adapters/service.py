"""The rules of adapters: which may be served, how a new version takes over, and how every gateway hears of it.

A version is written down before it is loaded, loaded everywhere before anybody gets it, and taken out only when nobody
is to get it any more. So a gateway that dies in between leaves something that asking again completes.
"""

import asyncio
import time
from contextlib import suppress
from functools import partial

from cloister_common.errors import Conflict, InvalidRequest, NotFound
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.identity.projects import Projects
from cloister_gateway.models.adapters.placement import Placement
from cloister_gateway.models.adapters.records import AdapterRecord, Version
from cloister_gateway.models.adapters.schemas import AdapterCreate
from cloister_gateway.models.adapters.store import AdapterStore, Change
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.storage.client import REDIS_AWAY

__all__ = ["Adapters"]

log = get_logger(__name__)

_CHANGED = "models.adapters"
_LOOK_SECONDS = 10.0
"""Word of a change may be lost; then it is in force within this time."""


class Adapters:
    """All adapters.

    Args:
        catalog: Has them as models.
        store: Keeps them.
        placement: Has them loaded.
        projects: Those that may be named.
        announcements: Tell every gateway of changes.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: AdapterStore,
        placement: Placement,
        projects: Projects,
        announcements: Announcements,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._placement = placement
        self._projects = projects
        self._announcements = announcements
        self._look = asyncio.Event()

    async def start(self, supervisor: Supervisor) -> None:
        """Takes over what is stored, and follows it from now on; ends with the supervisor."""
        self._announcements.subscribe(_CHANGED, lambda _: self._look.set(), self._look.set)
        await self.load()
        supervisor.loop("adapters", self._follow)
        supervisor.loop("adapter-pods", self._placement.run)

    async def load(self) -> None:
        """Takes over what is stored now."""
        records = await self._store.all()
        self._catalog.adapt(records)
        self._placement.want(records)

    async def all(self) -> list[AdapterRecord]:
        """All of them, oldest first."""
        return await self._store.all()

    async def get(self, name: str) -> AdapterRecord:
        """The adapter called ``name``. Raises `NotFound`."""
        found = next((record for record in await self.all() if record.name == name), None)
        if found is None:
            raise _unknown(name)
        return found

    def pods(self, record: AdapterRecord, version: Version) -> tuple[int, int]:
        """On how many pods a version is loaded, and how many there are, as this gateway knows them."""
        known = self._catalog.find(record.base_model) is not None
        return self._placement.has(version, record.base_model) if known else (0, 0)

    async def put(self, asked: AdapterCreate) -> AdapterRecord:
        """Serves what is asked for: a new adapter, a new version, another share, other projects, or the same again.

        Returns when every pod that answers has it.

        Raises:
            InvalidRequest: It cannot be; or a pod refuses it. Nothing has changed then.
            Unavailable: No pod of the model could say whether it can.
        """
        await self._check(asked)
        record = await self._write(asked.name, partial(_noted, asked))
        version = record.version(asked.digest)
        assert version is not None
        try:
            await self._placement.everywhere(version, asked.base_model)
        except BaseException:
            await self._change(asked.name, partial(_dropped, asked.digest))
            raise
        record = await self._write(asked.name, partial(_shared, asked))
        shares = [(found.digest, found.share) for found in record.versions]
        log.warning("adapter_served", adapter=record.name, projects=record.projects, versions=shares)
        return record

    async def remove(self, name: str) -> None:
        """Ends the adapter: nobody can ask for it any more. Pods forget it once its running answers are done.

        Raises:
            NotFound: There is none.
        """

        def none(record: AdapterRecord | None) -> None:
            if record is None:
                raise _unknown(name)

        await self._change(name, none)
        log.warning("adapter_removed", adapter=name)

    async def _check(self, asked: AdapterCreate) -> None:
        base = self._catalog.find(asked.base_model)
        if base is None or base.base is not None:
            raise InvalidRequest(
                f"There is no model '{asked.base_model}' that an adapter could be for. GET /v1/models lists them.",
                param="base_model",
                code="model_not_found",
            )
        if base.pool is not None:
            raise InvalidRequest(
                f"Somebody else chooses among the pods of '{asked.base_model}' (its pool), so adapters cannot be "
                "loaded on them from here.",
                param="base_model",
            )
        named = self._catalog.find(asked.name)
        if named is not None and named.base is None:
            raise InvalidRequest(f"'{asked.name}' is a model's own name. Choose another one.", param="name")
        for place, project_id in enumerate(asked.projects):
            project = await self._projects.find(project_id)
            if project is None or project.archived_at is not None:
                raise InvalidRequest(f"There is no project '{project_id}'.", param=f"projects[{place}]")

    async def _write(self, name: str, change: Change) -> AdapterRecord:
        record = await self._change(name, change)
        assert record is not None
        return record

    async def _change(self, name: str, change: Change) -> AdapterRecord | None:
        """Writes, then takes over, then tells."""
        record = await self._store.change(name, change)
        await self.load()
        await self._announcements.publish(_CHANGED, {})
        return record

    async def _follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._look.wait()
            self._look.clear()
            try:
                await self.load()
            except REDIS_AWAY as error:
                log.warning("adapters_not_read", error=type(error).__name__)


def _noted(asked: AdapterCreate, record: AdapterRecord | None) -> AdapterRecord:
    """The record with the version that is asked for in it, which nobody gets yet if it is new."""
    now = int(time.time())
    projects = tuple(asked.projects)
    if record is None:
        record = AdapterRecord(name=asked.name, base_model=asked.base_model, projects=projects, created_at=now)
    if record.base_model != asked.base_model:
        raise Conflict(
            f"'{asked.name}' is an adapter of '{record.base_model}'. Remove it first, or choose another name.",
            param="base_model",
        )
    first = record.live[:1]
    if asked.canary_percent is not None and (not first or first[0].digest == asked.digest):
        raise InvalidRequest(
            "'canary_percent' is for a version beside the one that the others get. Leave it out.",
            param="canary_percent",
        )
    known = record.version(asked.digest)
    new = Version(adapter=asked.name, digest=asked.digest, folder=asked.folder, created_at=now)
    if known is None:
        return record.with_versions(*record.versions, new)
    moved = known.model_copy(update={"folder": asked.folder})
    return record.with_versions(*(moved if version is known else version for version in record.versions))


def _shared(asked: AdapterCreate, record: AdapterRecord | None) -> AdapterRecord:
    """The record once the version is loaded: with its share, and without those that nobody is to get any more."""
    version = record.version(asked.digest) if record is not None else None
    if record is None or version is None:
        raise Conflict(f"'{asked.name}' was changed or removed meanwhile. Look at it and ask again.", param="name")
    record = record.model_copy(update={"projects": tuple(asked.projects)})
    share = asked.canary_percent
    if share is None:
        return record.with_versions(version.model_copy(update={"share": 100}), *_loading(record, asked.digest))
    first = next((found for found in record.live if found.digest != asked.digest), None)
    if first is None:
        raise Conflict(f"'{asked.name}' was changed meanwhile. Look at it and ask again.", param="canary_percent")
    return record.with_versions(
        first.model_copy(update={"share": 100 - share}),
        version.model_copy(update={"share": share}),
        *_loading(record, asked.digest),
    )


def _loading(record: AdapterRecord, digest: str) -> list[Version]:
    """Versions that others have asked for at this moment."""
    return [version for version in record.versions if not version.share and version.digest != digest]


def _dropped(digest: str, record: AdapterRecord | None) -> AdapterRecord | None:
    """The record without a version that could not be loaded, unless it answers already; no record without any."""
    if record is None:
        return None
    left = [version for version in record.versions if version.share or version.digest != digest]
    return record.with_versions(*left) if left else None


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no adapter '{name}'. GET /cloister/v1/adapters lists them.", param="name")
