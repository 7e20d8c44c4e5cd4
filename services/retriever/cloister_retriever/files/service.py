"""The rules for files: what may be uploaded, what a deletion takes with it."""

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey

from cloister_retriever.audience.schemas import AccessList
from cloister_retriever.audience.service import Audiences, Sight
from cloister_retriever.damage import Damaged, damage_of, sentence, telling
from cloister_retriever.files.schemas import ExpiresAfter, FileRecord, FilesQuery, Purpose, check_purpose
from cloister_retriever.files.store import FileStore
from cloister_retriever.files.upload import MultipartUpload
from cloister_retriever.identifiers import FILE_PREFIX, check_id, missing, new_placed_id, place_in
from cloister_retriever.jobs.due import Due
from cloister_retriever.storage.content import ContentFacts, sealed_size
from cloister_retriever.storage.uses import FileUses

__all__ = ["Detach", "FileDraft", "FileService", "FileUsers", "clean_name"]

log = get_logger(__name__)

Detach = Callable[[str, str, str], Awaitable[None]]
"""Takes (tenant, vector store id, file id) and removes the file and its passages from the store."""


@runtime_checkable
class FileUsers(Protocol):
    """Those above that use files, as a deletion has to know them."""

    async def detach_file(self, tenant: str, store_id: str, file_id: str) -> None:
        """`Detach`."""


_MAX_NAME = 255
_MAX_ENDING = 32
"""A name that is too long is cut before its ending, since that says what the file is. What is longer is no ending."""

_FIELDS = frozenset({"access", "purpose", "expires_after[anchor]", "expires_after[seconds]"})

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, line separators and text-direction overrides: they could disguise a name where it is shown."""


@dataclass(frozen=True, slots=True)
class FileDraft:
    """What is known of a file before its content is.

    Attributes:
        id: Its id, which says when it was made.
        name: As it is kept: see `clean_name`.
        lives_seconds: Until it expires, from when it was made; None if it never does.
    """

    id: str
    name: str
    purpose: Purpose
    lives_seconds: int | None


class FileService:
    """Uploads, lists, reads, deletes and expires files."""

    def __init__(
        self, store: FileStore, uses: FileUses, audiences: Audiences, due: Due, *, max_file_bytes: int
    ) -> None:
        self._store = store
        self._uses = uses
        self._audiences = audiences
        self._due = due
        self._max_file_bytes = max_file_bytes

    async def upload(self, tenant: str, form: MultipartUpload, sight: Sight) -> FileRecord:
        """Stores the file of a form, which has its access list from the first moment, if the form has one.

        It exists only once its whole content and all fields are in.

        Raises:
            Forbidden: The caller, whose ``sight`` it is, is nobody who could own an access list.
            InvalidRequest: A part is missing or wrong.
            UnsupportedParameter: A field we do not serve.
            PayloadTooLarge: Over the size limit.
        """
        name = await form.find_file()
        if name is None:
            raise InvalidRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
        _check_fields(form.fields)
        file_id = new_placed_id(FILE_PREFIX, time.time_ns())
        key = await self._store.create_key(tenant, file_id)
        facts: ContentFacts | None = None
        try:
            facts = await self._store.write_content(tenant, file_id, key, form.chunks(), max_bytes=self._max_file_bytes)
            await form.finish()
            _check_fields(form.fields)
            expiry = ExpiresAfter.of_form(form.fields)
            access = AccessList.of_form(form.fields)
            draft = FileDraft(
                file_id,
                clean_name(name),
                check_purpose(form.fields.get("purpose")),
                None if expiry is None else expiry.seconds,
            )
            if access is not None:
                await sight.put({file_id: sight.listed(file_id, None, access)})
            return await self._put(tenant, draft, facts, key)
        except BaseException:
            # Refused, cut off or failed.
            await self.abandon(tenant, file_id)
            raise

    async def assemble(self, tenant: str, draft: FileDraft, chunks: AsyncIterator[bytes]) -> FileRecord:
        """Stores a file whose content comes from within. Done again with the same draft and content, also at the same
        time, it is the same file; what was begun and is not wanted after all is for the caller to `abandon`.

        Raises:
            PayloadTooLarge: Over the size limit.
            CloisterError: What ``chunks`` raises.
        """
        key = await self._store.obtain_key(tenant, draft.id)
        facts = await self._store.write_content(tenant, draft.id, key, chunks, max_bytes=self._max_file_bytes)
        return await self._put(tenant, draft, facts, key)

    async def abandon(self, tenant: str, file_id: str) -> None:
        """Removes what was begun of a file: without a record nobody can see it, without a key nobody can read it."""
        await self._store.destroy_key(tenant, file_id)
        await self._store.delete_content(tenant, file_id)
        await self._audiences.forget(tenant, file_id)
        await self._store.delete(tenant, file_id)

    async def _put(self, tenant: str, draft: FileDraft, facts: ContentFacts, key: DataKey) -> FileRecord:
        made = place_in(draft.id)
        assert made is not None, "a file's id says when it was made"
        created_at = made // 10**9
        expires_at = None if draft.lives_seconds is None else created_at + draft.lives_seconds
        record = FileRecord(
            id=draft.id,
            name=draft.name,
            purpose=draft.purpose,
            size=facts.size,
            sha256=facts.sha256,
            created_at=created_at,
            created_ns=made,
            expires_at=expires_at,
        )
        if expires_at is not None:
            # Before the record: a time without a file does no harm.
            await self._due.note(tenant, draft.id, expires_at)
        await self._store.put(tenant, record, key)
        log.info("file_stored", file=draft.id, bytes=facts.size)
        return record

    async def list(
        self, tenant: str, query: FilesQuery, *, hidden: Collection[str] = frozenset()
    ) -> tuple[list[FileRecord], bool]:
        """One page without those ``hidden``, and whether there are more.

        What is damaged is among them; of what purpose, nobody can say.
        """
        timeline = await self._store.timeline(tenant)
        bounds = await timeline.bounds(after=query.after, order=query.order)

        async def seen() -> AsyncGenerator[Sequence[FileRecord]]:
            async for step in timeline.steps(bounds, query.limit + 1):
                wanted = [one for one in step if query.purpose in {None, one.purpose} or one.damage is not None]
                yield [one for one in wanted if not _expired(one) and one.id not in hidden]

        page, has_more = await bounds.gather(seen(), query.limit)
        # After the records: of a file that is being stored the content is there first.
        sizes = await self._store.sizes(tenant, [record.id for record in page])
        return [_whole(record, sizes.get(record.id)) for record in page], has_more

    async def is_there(self, tenant: str, file_id: str) -> bool:
        """Whether there is such a file, whole or damaged."""
        return await self._store.is_there(tenant, file_id)

    async def describe(self, tenant: str, file_id: str) -> FileRecord:
        """The file's record, or what stands for one that is damaged.

        Raises:
            NotFound: Unknown, or another tenant's.
        """
        try:
            record = await self.get(tenant, file_id)
        except Damaged:
            return FileRecord.lost(file_id)
        return _whole(record, await self._store.size(tenant, file_id))

    async def get(self, tenant: str, file_id: str, *, param: str | None = None) -> FileRecord:
        """The file's record.

        Raises:
            NotFound: Unknown, or another tenant's.
            Damaged: It does not open.
        """
        with damage_of("file", check_id(FILE_PREFIX, file_id, param=param)):
            record = await self._store.get(tenant, file_id)
        if record is None or _expired(record):
            raise missing(FILE_PREFIX, file_id, param=param)
        return record

    def content(
        self, tenant: str, record: FileRecord, *, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """The file's bytes ``start`` to ``stop`` (exclusive).

        Raises:
            Damaged: They do not open; also in the middle.
        """
        return telling("file", record.id, self._store.read_content(tenant, record, start=start, stop=stop))

    async def delete(self, tenant: str, file_id: str, detach: Detach) -> None:
        """Deletes the file: from every vector store, its key, its content.

        The stores go first, so that after a crash in between the file is still there to be deleted again; from its
        key's destruction on nobody sees it, and the same request once more removes what is left. What Milvus cannot
        remove now is in the durable queue.

        Raises:
            NotFound: Unknown, or another tenant's.
        """
        if not await self._store.is_there(tenant, check_id(FILE_PREFIX, file_id)):
            raise missing(FILE_PREFIX, file_id)
        await self._detach_everywhere(tenant, file_id, detach)
        await self._store.destroy_key(tenant, file_id)
        # Where it was attached meanwhile; after this a worker finds that the file is gone.
        await self._detach_everywhere(tenant, file_id, detach)
        await self._store.delete_content(tenant, file_id)
        await self._uses.forget_all(tenant, file_id)
        await self._audiences.forget(tenant, file_id)
        await self._store.delete(tenant, file_id)
        log.info("file_deleted", file=file_id)

    async def _detach_everywhere(self, tenant: str, file_id: str, detach: Detach) -> None:
        for store_id in await self._uses.stores(tenant, file_id):
            await detach(tenant, store_id, file_id)


def _expired(record: FileRecord) -> bool:
    return record.expires_at is not None and record.expires_at <= time.time()


def clean_name(name: str) -> str:
    """The last part of a path, without control characters, 255 characters at most with its ending, never empty."""
    last = re.split(r"[/\\]", name)[-1]
    cleaned = _CONTROL.sub("", last).strip()
    if len(cleaned) > _MAX_NAME:
        stem, dot, ending = cleaned.rpartition(".")
        kept = dot + ending if stem and len(ending) <= _MAX_ENDING else ""
        cleaned = cleaned[: _MAX_NAME - len(kept)] + kept
    return cleaned if cleaned.strip(".") else "unnamed"


def _whole(record: FileRecord, stored: int | None) -> FileRecord:
    """The record, with a word on its content if that is gone or was cut: ``stored`` is how many bytes it has."""
    if record.damage is not None or stored == sealed_size(record.size):
        return record
    log.error("stored_data_damaged", what="file", id=record.id)
    return record.model_copy(update={"damage": sentence("file", record.id)})


def _check_fields(fields: dict[str, str]) -> None:
    for name in fields:
        if name not in _FIELDS:
            raise UnsupportedParameter(_CONTROL.sub("", name)[:64])
    if "purpose" in fields:
        check_purpose(fields["purpose"])
