"""What the gateway puts into prompts of files: their text, parsed as for a vector store, or the image that they are.

Nothing of it is stored here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from cloister_common.errors import InvalidRequest, PayloadTooLarge
from cloister_common.wire.images import EDGES, MOST_IMAGE_FILE_BYTES, Detail, ReadImage
from cloister_common.wire.reading import MOST_CHARACTERS, MOST_FILE_BYTES, ReadFile

from cloister_retriever.files.service import FileService, clean_name
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.parser import Parser
from cloister_retriever.settings import IngestionSettings

__all__ = ["ReadingService", "limits_of", "looking_of"]

_AT_ONCE = 2
"""Who comes while as many are read waits, as long as the gateway does."""

_IMAGE_CODES = {"unsupported_file": "unsupported_image_media_type", "invalid_file": "invalid_image"}
"""OpenAI's codes for images that cannot be read."""

_MOST_MEMORY_BYTES = 512 * 1024 * 1024
_MOST_SECONDS = 20.0
"""Of one file, where ingestion has not less: pods that answer have 2 GiB, and somebody waits, for 30 s at most."""


def limits_of(ingestion: IngestionSettings) -> IngestionSettings:
    """What reading a file for a prompt may cost."""
    memory = min(ingestion.parse_memory_bytes, _MOST_MEMORY_BYTES)
    return ingestion.model_copy(
        update={
            "parse_memory_bytes": memory,
            "parse_seconds": min(ingestion.parse_seconds, _MOST_SECONDS),
            "pictures": ingestion.pictures.model_copy(update={"max_per_file": 0}),
        }
    )


def looking_of(ingestion: IngestionSettings) -> IngestionSettings:
    """What reading a picture that is searched with may cost."""
    return limits_of(ingestion).model_copy(
        update={"pictures": ingestion.pictures.model_copy(update={"max_per_file": 1}), "max_text_bytes": 64 * 1024}
    )


class ReadingService:
    """Reads files of all tenants.

    Args:
        files: Those that were uploaded.
        parser: Reads, in a confined process for each file.
        passage_tokens: What the parser cuts passages by, which nobody looks at here.
    """

    def __init__(self, files: FileService, parser: Parser, *, passage_tokens: int) -> None:
        self._files = files
        self._parser = parser
        self._passage_tokens = passage_tokens
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def read_stored(self, tenant: str, file_id: str) -> ReadFile:
        """The text of an uploaded file.

        Raises:
            NotFound: Unknown, expired, or another tenant's.
            InvalidRequest: It cannot be read, has no text, or too much for one prompt.
            Damaged: What is stored of it does not open.
        """
        record = await self._files.get(tenant, file_id, param="file_id")
        if record.size > MOST_FILE_BYTES:
            raise _too_large()
        text = await self._text(record.name, self._files.content(tenant, record))
        return ReadFile(file_id=file_id, filename=record.name, text=text)

    async def read_sent(self, name: str, content: AsyncIterator[bytes]) -> ReadFile:
        """The text of a file that is not kept. Raises as `read_stored`."""
        cleaned = clean_name(name)
        return ReadFile(
            file_id=None,
            filename=cleaned,
            text=await self._text(cleaned, _bounded(content, MOST_FILE_BYTES, _too_large)),
        )

    async def see_stored(self, tenant: str, file_id: str, detail: Detail) -> ReadImage:
        """The image that an uploaded file is.

        Raises:
            NotFound: Unknown, expired, or another tenant's.
            InvalidRequest: It is no image that is known, is broken, or is over a limit.
            Damaged: What is stored of it does not open.
        """
        record = await self._files.get(tenant, file_id, param="file_id")
        if record.size > MOST_IMAGE_FILE_BYTES:
            raise _too_large_image()
        image = await self._image(self._files.content(tenant, record), detail)
        return image.model_copy(update={"file_id": file_id})

    async def see_sent(self, content: AsyncIterator[bytes], detail: Detail) -> ReadImage:
        """An image that is not kept. Raises as `see_stored`."""
        return await self._image(_bounded(content, MOST_IMAGE_FILE_BYTES, _too_large_image), detail)

    async def _image(self, content: AsyncIterator[bytes], detail: Detail) -> ReadImage:
        async with self._places:
            try:
                return await self._parser.picture(content, edge=EDGES[detail], max_tokens=self._passage_tokens)
            except UnreadableFile as error:
                raise InvalidRequest(error.message, param="file", code=_IMAGE_CODES[error.code]) from error

    async def _text(self, name: str, content: AsyncIterator[bytes]) -> str:
        async with self._places:
            try:
                parsed = await self._parser.parse(content, name=name, max_tokens=self._passage_tokens, overlap_tokens=0)
            except UnreadableFile as error:
                raise InvalidRequest(error.message, param="file", code=error.code) from error
        if parsed.is_picture:
            # What is said of it is not what it shows.
            raise InvalidRequest(
                "The file is a picture, and has no text of its own.", param="file", code="unsupported_file"
            )
        if not parsed.text.strip():
            raise InvalidRequest("There is no text in the file.", param="file", code="invalid_file")
        if len(parsed.text) > MOST_CHARACTERS:
            raise InvalidRequest(
                f"The file has {len(parsed.text)} characters; the limit in one prompt is {MOST_CHARACTERS}. Put it "
                "into a vector store, and search there.",
                param="file",
                code="string_above_max_length",
            )
        return parsed.text


async def _bounded(
    content: AsyncIterator[bytes], most: int, refusal: Callable[[], PayloadTooLarge]
) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in content:
        size += len(chunk)
        if size > most:
            raise refusal()
        yield chunk


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The file is over the limit of {MOST_FILE_BYTES} bytes in one prompt. Put it into a vector store, and search "
        "there.",
        param="file",
    )


def _too_large_image() -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The image is over the limit of {MOST_IMAGE_FILE_BYTES} bytes. Send a smaller one.", param="file"
    )
