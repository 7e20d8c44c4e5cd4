"""The rules for vector stores themselves: making, listing, changing, expiring, deleting."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.errors import Conflict, NotFound, UnsupportedParameter
from cloister_common.logs import get_logger
from cloister_common.payer import Payer
from cloister_common.vault import DataKey, VaultError

from cloister_retriever.damage import Damaged, damage_of
from cloister_retriever.editions import Edition, Place
from cloister_retriever.identifiers import STORE_PREFIX, check_id, missing, new_placed_id
from cloister_retriever.jobs.purges import Purges
from cloister_retriever.pages import ListQuery
from cloister_retriever.settings import Protection
from cloister_retriever.storage.editions import Editions
from cloister_retriever.storage.objects import each
from cloister_retriever.storage.uses import FileUses
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.expiry import Expiries
from cloister_retriever.vector_stores.ingestions import remove_store
from cloister_retriever.vector_stores.models import EmbeddingModels
from cloister_retriever.vector_stores.progress import progress_of_all
from cloister_retriever.vector_stores.records import StoreRecord, StoreView
from cloister_retriever.vector_stores.schemas import AttachFile, CreateStore, UpdateStore
from cloister_retriever.vector_stores.store import VectorStoreStore

__all__ = ["OpenStore", "VectorStoreService"]

log = get_logger(__name__)

_CLEAR_SECONDS = 5.0
"""What is deleted within it is a store of about two thousand files."""

_ACTIVITY_SECONDS = 60.0
"""Expiry counts in days; noting the time of use once a minute is exact enough."""


class OpenStore(NamedTuple):
    """A store that exists, with its key and the edition in which it is searched."""

    record: StoreRecord
    key: DataKey
    edition: Edition

    @property
    def place(self) -> Place:
        """Where its passages lie."""
        return Place(self.record.id, self.edition.number)


class VectorStoreService:
    """Vector stores of all tenants."""

    def __init__(
        self,
        store: VectorStoreStore,
        attachments: AttachmentService,
        uses: FileUses,
        purges: Purges,
        expiries: Expiries,
        models: EmbeddingModels,
        *,
        protection: Protection,
    ) -> None:
        self._store = store
        self._attachments = attachments
        self._uses = uses
        self._purges = purges
        self._expiries = expiries
        self._models = models
        self._protection = protection
        self._noted: dict[str, float] = {}

    async def create(self, tenant: str, request: CreateStore, payer: Payer | None = None) -> StoreView:
        """A new store, with the files it was asked to begin with.

        Raises:
            NotFound: One of ``file_ids`` does not exist.
            UnsupportedParameter: ``chunking_strategy`` without files to apply it to.
        """
        if request.chunking_strategy is not None and not request.file_ids:
            raise UnsupportedParameter(
                "chunking_strategy",
                "'chunking_strategy' applies to 'file_ids' of the same request: send both or neither.",
            )
        entries = [
            AttachFile(file_id=file_id, chunking_strategy=request.chunking_strategy)
            for file_id in dict.fromkeys(request.file_ids or [])
        ]
        files = await self._attachments.known_files(tenant, entries)
        now = time.time_ns()
        record = StoreRecord(
            id=new_placed_id(STORE_PREFIX, now),
            name=request.name or "",
            description=request.description,
            metadata=request.metadata or {},
            created_at=now // 10**9,
            created_ns=now,
            expires_after_days=None if request.expires_after is None else request.expires_after.days,
            model=self._models.default,
            protection=request.protection or self._protection,
        )
        await self._store.create(tenant, record)
        await self._store.editions.create(tenant, record.id, Edition(model=record.model))
        if record.expires_after_days is not None:
            await self._expiries.watch(tenant, record.id)
        opened = await self.open(tenant, record.id)
        if entries:
            await self._attachments.attach_all(tenant, record.id, opened.key, entries, files, payer)
        log.info("vector_store_created", store=record.id, files=len(entries))
        return await self.describe(tenant, opened)

    async def get(self, tenant: str, store_id: str, *, param: str | None = None) -> OpenStore:
        """The store, expired or not.

        Raises:
            NotFound: Unknown, or another tenant's.
            Damaged: It does not open.
        """
        with damage_of("vector store", check_id(STORE_PREFIX, store_id, param=param)):
            record = await self._store.get(tenant, store_id)
            key = None if record is None else await self._store.key(tenant, store_id)
            if record is None or key is None:
                raise missing(STORE_PREFIX, store_id, param=param)
            return await self._opened(tenant, record, key)

    async def open(self, tenant: str, store_id: str, *, param: str | None = None) -> OpenStore:
        """The store, for use: its time of last use is noted.

        Raises:
            NotFound: Unknown, or another tenant's.
            Conflict: It has expired, or its embedding model is not served any more.
            Unavailable: Whether that is served cannot be known.
        """
        opened = await self.get(tenant, store_id, param=param)
        expires_at = opened.record.expires_at(await self._active_at(tenant, opened.record, opened.key))
        if expires_at is not None and expires_at <= time.time():
            raise Conflict(
                f"The vector store '{store_id}' has expired. Attach its files to a new one.",
                code="vector_store_expired",
            )
        await self._models.require_of(store_id, opened.edition.model)
        if time.monotonic() - self._noted.get(store_id, -_ACTIVITY_SECONDS) >= _ACTIVITY_SECONDS:
            await self._store.note_active(tenant, store_id, opened.key)
            if len(self._noted) > 10_000:
                self._noted.clear()
            self._noted[store_id] = time.monotonic()
        return opened

    async def grown_at(self, tenant: str, opened: OpenStore) -> float | None:
        """When passages were last added, in seconds since the epoch; None if none ever were."""
        return await self._store.grown_at(tenant, opened.record.id, opened.key)

    async def note_grown(self, tenant: str, opened: OpenStore) -> None:
        """Says that passages were added just now."""
        await self._store.note_grown(tenant, opened.record.id, opened.key)

    async def protections(self, tenant: str, opened: OpenStore) -> Sequence[Protection]:
        """Which protections its passages have: that of new ones first."""
        return await self._protections(tenant, opened.record, opened.key)

    async def editions(self, tenant: str, opened: OpenStore) -> Editions:
        """The editions it has now."""
        found = await self._store.editions.get(tenant, opened.record.id)
        return Editions(serving=Edition(model=opened.record.model)) if found is None else found

    async def change_editions(self, tenant: str, opened: OpenStore, before: Editions, after: Editions) -> Editions:
        """Makes ``after`` what follows ``before``.

        Raises:
            Conflict: Something else has followed it already.
        """
        return await self._store.editions.change(tenant, opened.record.id, before, after)

    async def list(self, tenant: str, query: ListQuery) -> tuple[list[StoreView], bool]:
        """One page of stores, and whether there are more."""
        timeline = await self._store.timeline(tenant)
        bounds = await timeline.bounds(after=query.after, before=query.before, order=query.order)
        records, has_more = await bounds.gather(timeline.steps(bounds, query.limit + 1), query.limit)

        async def one(record: StoreRecord) -> StoreView | None:
            if record.damage is not None:
                return StoreView(record, [], record.created_at, {})
            key = await self._store.key(tenant, record.id)
            return None if key is None else await self._describe(tenant, record, key)

        return [view for view in await each(one, records) if view is not None], has_more

    async def update(self, tenant: str, store_id: str, request: UpdateStore) -> StoreView:
        """Changes what was sent and nothing else."""
        opened = await self.get(tenant, store_id)
        changes: dict[str, object] = {}
        if "name" in request.model_fields_set:
            changes["name"] = request.name or ""
        if "metadata" in request.model_fields_set:
            changes["metadata"] = request.metadata or {}
        if "expires_after" in request.model_fields_set:
            changes["expires_after_days"] = None if request.expires_after is None else request.expires_after.days
        record = opened.record.model_copy(update=changes)
        if record.expires_after_days is not None:
            await self._expiries.watch(tenant, store_id)
        await self._store.put(tenant, record, opened.key)
        return await self._describe(tenant, record, opened.key)

    async def delete(self, tenant: str, store_id: str) -> None:
        """Deletes the store with its passages; the files stay.

        All of the clean-up is made durable first; then the store is gone at once for every reader. What of the
        clean-up takes longer than somebody should wait for is left to a worker.
        """
        if not await self._store.is_there(tenant, check_id(STORE_PREFIX, store_id)):
            raise missing(STORE_PREFIX, store_id)
        purge = await self._purges.plan(tenant, store_id, protection=await self._protection_of(tenant, store_id))
        await self._store.hide(tenant, store_id)
        await self._expiries.forget(store_id)
        try:
            async with asyncio.timeout(_CLEAR_SECONDS):
                await remove_store(self._store, self._uses, tenant, store_id)
                await self._purges.run(purge)
        except TimeoutError:
            self._purges.leave(purge)
        log.info("vector_store_deleted", store=store_id)

    async def settle_expiry(self, tenant: str, store_id: str) -> bool:
        """Empties the store if it has expired; says whether it needs no watching any more.

        The store itself stays, with the status ``expired`` and no files, until its owner deletes it.
        """
        record = await self._store.get(tenant, store_id)
        key = None if record is None else await self._store.key(tenant, store_id)
        if record is None or key is None or record.expires_after_days is None:
            return True
        expires_at = record.expires_at(await self._active_at(tenant, record, key))
        if expires_at is None or expires_at > time.time():
            return False
        for file in await self._store.attached_files(tenant, store_id, key):
            await self.detach_file(tenant, store_id, file.record.file_id)
        log.info("vector_store_expired", store=store_id)
        return True

    async def detach_file(self, tenant: str, store_id: str, file_id: str) -> None:
        """Removes a file from a store it may be in.

        A file that is noted as used may not be attached: the process that attached or detached it died in between.
        A store whose key is damaged has nothing that could be read, and keeps no file from being deleted.
        """
        try:
            key = await self._store.key(tenant, store_id)
        except VaultError:
            log.error("stored_data_damaged", what="vector store", id=store_id)
            return
        if key is not None:
            with contextlib.suppress(NotFound):
                await self._attachments.detach(tenant, store_id, key, file_id)

    async def describe(self, tenant: str, opened: OpenStore) -> StoreView:
        """The store as it is in this moment."""
        return await self._describe(tenant, opened.record, opened.key)

    async def _opened(self, tenant: str, record: StoreRecord, key: DataKey) -> OpenStore:
        editions = await self._store.editions.get(tenant, record.id)
        return OpenStore(record, key, Edition(model=record.model) if editions is None else editions.serving)

    async def _describe(self, tenant: str, record: StoreRecord, key: DataKey) -> StoreView:
        files = await self._store.attached_files(tenant, record.id, key)
        protection, *_ = await self._protections(tenant, record, key)
        record = record.model_copy(update={"protection": protection})
        progress = await self._attachments.progress(tenant, record.id, key, files)
        return StoreView(record, files, await self._active_at(tenant, record, key), progress_of_all(files, progress))

    async def _protections(self, tenant: str, record: StoreRecord, key: DataKey) -> Sequence[Protection]:
        if record.protection == "standard":
            return ["standard"]
        outgrown = await self._store.has_outgrown(tenant, record.id, key)
        return ["standard", "sealed"] if outgrown else ["sealed"]

    async def _protection_of(self, tenant: str, store_id: str) -> Protection | None:
        """The protection of all that a store has; None if that is not known, or both."""
        try:
            protections = await self.protections(tenant, await self.get(tenant, store_id))
        except (Damaged, NotFound):
            return None
        return protections[0] if len(protections) == 1 else None

    async def _active_at(self, tenant: str, record: StoreRecord, key: DataKey) -> int:
        noted = await self._store.active_at(tenant, record.id, key)
        return record.created_at if noted is None else int(noted)
