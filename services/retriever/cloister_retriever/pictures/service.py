"""Fetching pictures: from a hit, by the store, the file and the picture's number."""

import asyncio
from collections.abc import AsyncIterator

from cloister_common.errors import InvalidRequest, NotFound
from cloister_common.vault import DataKey
from cloister_common.wire.reading import MOST_FILE_BYTES

from cloister_retriever.damage import damage_of
from cloister_retriever.files.service import FileService
from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.keys import PassageKeyring, picture_key
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.parser import Parser
from cloister_retriever.pictures.store import PictureStore, StoredPicture
from cloister_retriever.vector_stores.attachments import AttachmentService

__all__ = ["PictureService"]

_AT_ONCE = 2
"""Pictures that are searched with are read so many at a time; who comes meanwhile waits."""

_PASSAGE_TOKENS = 100
"""What the parser cuts passages by, which nobody looks at here."""


class PictureService:
    """Gives pictures.

    Args:
        store: Where they lie.
        keys: Finds the keys of a file's passages.
        attachments: Knows which files a store has.
        files: Those that were uploaded.
        parser: Reads a picture that is asked with, in a confined process.
    """

    def __init__(
        self,
        store: PictureStore,
        keys: PassageKeyring,
        attachments: AttachmentService,
        files: FileService,
        parser: Parser,
    ) -> None:
        self._store = store
        self._keys = keys
        self._attachments = attachments
        self._files = files
        self._parser = parser
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def get(self, tenant: str, store_id: str, key: DataKey, file_id: str, number: int) -> StoredPicture:
        """A picture of a file in the store of this key.

        Raises:
            NotFound: The file is not in this store, or has no such picture (yet).
            Damaged: It does not open.
        """
        found = await self._attachments.get(tenant, store_id, key, file_id)
        keys = await self._keys.get(tenant, picture_key(key, tenant), file_id)
        owner = PassageOwner(tenant, store_id, file_id, found.record.id)
        picture = None
        if found.status == "completed" and keys is not None:
            with damage_of("picture of the file", file_id):
                picture = await self._store.read(keys, owner, number)
        if picture is None:
            raise NotFound(f"The file '{file_id}' has no picture {number} in this vector store.", code="no_content")
        return picture

    async def asked(self, content: AsyncIterator[bytes], param: str) -> bytes:
        """A picture that is searched with, drawn anew and small.

        Raises:
            InvalidRequest: It is none, or is damaged; it names ``param``.
            Unavailable: The parser could not be started; try again.
        """
        try:
            async with self._places:
                parsed = await self._parser.parse(content, name="", max_tokens=_PASSAGE_TOKENS, overlap_tokens=0)
        except UnreadableFile as error:
            raise InvalidRequest(
                f"'{param}' cannot be searched with: {error.message}", param=param, code="invalid_image_format"
            ) from error
        if not parsed.is_picture or not parsed.pictures:
            raise InvalidRequest(
                f"'{param}' is no picture to search with. Send a PNG, JPEG, WebP, TIFF or GIF of 32 pixels a side or "
                "more.",
                param=param,
                code="invalid_image_format",
            )
        return parsed.pictures[0].small

    async def asked_file(self, tenant: str, file_id: str, param: str) -> bytes:
        """As `asked`, of a file that was uploaded.

        Raises:
            NotFound: Unknown, or another tenant's.
            InvalidRequest: Also where the file is too large.
        """
        record = await self._files.get(tenant, file_id, param=param)
        if record.size > MOST_FILE_BYTES:
            raise InvalidRequest(
                f"'{param}' is over the limit of {MOST_FILE_BYTES} bytes for a picture that is searched with. Upload a "
                "smaller one.",
                param=param,
            )
        return await self.asked(self._files.content(tenant, record), param)
