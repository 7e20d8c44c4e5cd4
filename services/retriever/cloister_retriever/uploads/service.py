"""The rules for uploads: parts come in any order and number at once, and become one file, once.

An upload outlives crashes on either side: its parts are there once they are acknowledged, and to complete it again, in
the same way, goes on where the first call was cut off, or gives the file there is.
"""

import hashlib
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from cloister_common.errors import CloisterError, InvalidRequest, NotFound, PayloadTooLarge, UnsupportedParameter
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, VaultError
from openai.types import Upload
from openai.types.uploads import UploadPart

from cloister_retriever.audience.service import Sight
from cloister_retriever.damage import damage_of, telling
from cloister_retriever.files.schemas import FileRecord, check_purpose
from cloister_retriever.files.service import FileDraft, FileService, clean_name
from cloister_retriever.files.upload import MultipartUpload
from cloister_retriever.identifiers import FILE_PREFIX, PART_PREFIX, UPLOAD_PREFIX, check_id, missing, new_placed_id
from cloister_retriever.jobs.due import Due
from cloister_retriever.uploads.schemas import (
    LIFETIME_SECONDS,
    MOST_PARTS,
    PART_BYTES,
    CompleteUpload,
    CreateUpload,
    Ending,
    UploadRecord,
    part_wire,
)
from cloister_retriever.uploads.store import UploadStore

__all__ = ["UploadService"]

log = get_logger(__name__)

_GRACE_SECONDS = 600
"""From when an upload expires until what is left of it is removed: one that is being completed then is done by then."""

_FIELD = "data"
"""What OpenAI calls the content of a part in its form."""


class _Open(NamedTuple):
    record: UploadRecord
    key: DataKey


class UploadService:
    """Uploads of all tenants."""

    def __init__(self, store: UploadStore, files: FileService, due: Due, *, max_file_bytes: int) -> None:
        self._store = store
        self._files = files
        self._due = due
        self._max_file_bytes = max_file_bytes

    async def create(self, tenant: str, request: CreateUpload, sight: Sight) -> Upload:
        """A new upload, which takes parts from now on.

        Raises:
            Forbidden: The caller, whose ``sight`` it is, is nobody who could own an access list.
            InvalidRequest: A wrong purpose.
            PayloadTooLarge: The file would be over the size limit.
        """
        if request.bytes > self._max_file_bytes:
            raise PayloadTooLarge(
                f"The file is over the limit of {self._max_file_bytes} bytes. Send a smaller one.", param="bytes"
            )
        now = time.time_ns()
        upload_id = new_placed_id(UPLOAD_PREFIX, now)
        record = UploadRecord(
            id=upload_id,
            name=clean_name(request.filename),
            purpose=check_purpose(request.purpose),
            size=request.bytes,
            created_at=now // 10**9,
            created_ns=now,
            expires_at=now // 10**9 + LIFETIME_SECONDS,
            file_lives_seconds=None if request.expires_after is None else request.expires_after.seconds,
            access=sight.listed(upload_id, None, request.access),
        )
        await self._due.note(tenant, record.id, record.expires_at + _GRACE_SECONDS)
        await self._store.create(tenant, record)
        log.info("upload_created", upload=record.id, bytes=record.size)
        return record.wire("pending")

    async def add_part(self, tenant: str, upload_id: str, form: MultipartUpload, sight: Sight) -> UploadPart:
        """Stores one part. Parts may come in any order, several at a time.

        Raises:
            NotFound: No such upload, or it has an access list that is not the caller's, whose ``sight`` it is.
            InvalidRequest: The upload has ended, or the form is wrong.
            PayloadTooLarge: The part, or all parts together, are over the limit.
        """
        opened = await self._pending(tenant, upload_id, sight)
        parts = await self._store.parts(tenant, upload_id)
        if len(parts) >= MOST_PARTS:
            raise InvalidRequest(f"The upload has {MOST_PARTS} parts, and takes no more. Send larger ones.")
        # Twice what was announced: a part whose answer was lost is sent again.
        room = min(PART_BYTES, 2 * opened.record.size - sum(parts.values()))
        if await form.find_file() is None:
            raise InvalidRequest(
                f"Missing required parameter: '{_FIELD}'.", param=_FIELD, code="missing_required_parameter"
            )
        part_id = new_placed_id(PART_PREFIX, time.time_ns())
        try:
            await self._store.write_part(tenant, upload_id, part_id, opened.key, form.chunks(), max_bytes=room)
            await form.finish()
            _refuse_fields(form)
        except PayloadTooLarge as error:
            raise PayloadTooLarge(
                f"A part has {PART_BYTES} bytes at most, and all parts together no more than twice the 'bytes' that "
                "the upload was created with. Send smaller parts.",
                param=_FIELD,
            ) from error
        except BaseException:
            await self._store.delete_part(tenant, upload_id, part_id)
            raise
        return part_wire(part_id, upload_id)

    async def complete(self, tenant: str, upload_id: str, request: CompleteUpload, sight: Sight) -> Upload:
        """Makes the file of the parts, in the order asked for. The same call again gives the same file.

        Raises:
            NotFound: No such upload for the caller, whose ``sight`` it is, or no such part of it.
            InvalidRequest: The parts are not what was announced, or the upload has ended otherwise.
            Damaged: A part does not open.
        """
        record, key = await self._open(tenant, upload_id, sight)
        ending = await self._store.ending(tenant, upload_id, key)
        if ending is None:
            self._refuse_expired(record)
            await self._chosen(tenant, record, request.part_ids)
            file_id = new_placed_id(FILE_PREFIX, time.time_ns())
            fresh = Ending(file_id=file_id, part_ids=request.part_ids, md5=request.md5)
            await self._store.end(tenant, upload_id, fresh, key)
            # Of several that end it at once, the winner's is there now.
            ending = await self._store.ending(tenant, upload_id, key)
        if ending is None or ending.file_id is None:
            raise _ended("It was cancelled.")
        if (ending.part_ids, ending.md5) != (request.part_ids, request.md5):
            raise _ended("It was completed with other 'part_ids' or another 'md5'.")
        file = await self._file(tenant, ending.file_id)
        if file is None:
            if record.access is not None:
                # Before the file is there: nobody else ever sees it.
                await sight.put({ending.file_id: record.access.model_copy(update={"file_id": ending.file_id})})
            file = await self._assemble(tenant, record, ending.file_id, key, request)
        await self._store.delete_parts(tenant, upload_id)
        log.info("upload_completed", upload=upload_id, file=file.id)
        return record.wire("completed", file)

    async def cancel(self, tenant: str, upload_id: str, sight: Sight) -> Upload:
        """Ends the upload without a file. Doing it again is no error.

        Raises:
            NotFound: No such upload for the caller, whose ``sight`` it is.
            InvalidRequest: It was completed, or has expired.
        """
        record, key = await self._open(tenant, upload_id, sight)
        ending = await self._store.ending(tenant, upload_id, key)
        if ending is None:
            self._refuse_expired(record)
            await self._store.end(tenant, upload_id, Ending(), key)
            ending = await self._store.ending(tenant, upload_id, key)
        if ending is None or not ending.cancelled:
            raise _ended("It was completed.")
        await self._store.delete_parts(tenant, upload_id)
        return record.wire("cancelled")

    async def expire(self, tenant: str, upload_id: str) -> None:
        """Removes what is left of an upload: all of it, but for a file that came of it."""
        try:
            key = await self._store.key(tenant, upload_id)
            ending = None if key is None else await self._store.ending(tenant, upload_id, key)
        except VaultError:
            log.error("stored_data_damaged", what="upload", id=upload_id)
            ending = None
        if ending is not None and ending.file_id is not None and await self._file(tenant, ending.file_id) is None:
            # Whoever completed it died, or the file was deleted since.
            await self._files.abandon(tenant, ending.file_id)
        await self._store.delete(tenant, upload_id)

    async def _assemble(
        self, tenant: str, record: UploadRecord, file_id: str, key: DataKey, request: CompleteUpload
    ) -> FileRecord:
        draft = FileDraft(file_id, record.name, record.purpose, record.file_lives_seconds)
        try:
            parts = await self._chosen(tenant, record, request.part_ids)
            chunks = telling("upload", record.id, self._store.read_parts(tenant, record.id, parts, key))
            return await self._files.assemble(tenant, draft, _checked(chunks, request.md5))
        except _OtherDigestError as error:
            # Whoever else completes it in this way finds the same, so there is no file that could be lost.
            await self._files.abandon(tenant, file_id)
            await self._store.reopen(tenant, record.id)
            raise InvalidRequest("The parts, in this order, have another MD5 than 'md5'.", param="md5") from error
        except CloisterError:
            # Whoever else completes it in this way may have been quicker, and have taken the parts away.
            file = await self._file(tenant, file_id)
            if file is None:
                raise
            return file

    async def _chosen(self, tenant: str, record: UploadRecord, part_ids: list[str]) -> dict[str, int]:
        """The parts asked for, in order, with their bytes."""
        parts = await self._store.parts(tenant, record.id)
        if len(set(part_ids)) < len(part_ids):
            raise InvalidRequest("'part_ids' names a part twice. Name each once.", param="part_ids")
        for index, part_id in enumerate(part_ids):
            if part_id not in parts:
                raise missing(PART_PREFIX, part_id, param=f"part_ids[{index}]")
        chosen = {part_id: parts[part_id] for part_id in part_ids}
        if sum(chosen.values()) != record.size:
            raise InvalidRequest(
                f"The parts have {sum(chosen.values())} bytes together, and the upload was created with 'bytes': "
                f"{record.size}. Name the parts that make up the whole file.",
                param="part_ids",
            )
        return chosen

    async def _file(self, tenant: str, file_id: str) -> FileRecord | None:
        try:
            return await self._files.get(tenant, file_id)
        except NotFound:
            return None

    async def _pending(self, tenant: str, upload_id: str, sight: Sight) -> _Open:
        opened = await self._open(tenant, upload_id, sight)
        ending = await self._store.ending(tenant, upload_id, opened.key)
        if ending is not None:
            raise _ended("It was cancelled." if ending.cancelled else "It was completed.")
        self._refuse_expired(opened.record)
        return opened

    async def _open(self, tenant: str, upload_id: str, sight: Sight) -> _Open:
        with damage_of("upload", check_id(UPLOAD_PREFIX, upload_id)):
            record = await self._store.get(tenant, upload_id)
            key = None if record is None else await self._store.key(tenant, upload_id)
        if record is None or key is None or not sight.may_change(record.access):
            raise missing(UPLOAD_PREFIX, upload_id)
        return _Open(record, key)

    @staticmethod
    def _refuse_expired(record: UploadRecord) -> None:
        if record.expires_at <= time.time():
            raise _ended("It has expired.")


def _refuse_fields(form: MultipartUpload) -> None:
    for name in form.fields:
        raise UnsupportedParameter(name)


class _OtherDigestError(Exception):
    """The content has not the MD5 that it should have."""


async def _checked(chunks: AsyncIterator[bytes], md5: str | None) -> AsyncIterator[bytes]:
    digest = hashlib.md5(usedforsecurity=False)
    async for chunk in chunks:
        if md5 is not None:
            digest.update(chunk)
        yield chunk
    if md5 is not None and digest.hexdigest() != md5.lower():
        raise _OtherDigestError


def _ended(how: str) -> InvalidRequest:
    return InvalidRequest(f"The upload has ended. {how} Create a new one.", code="upload_ended")
