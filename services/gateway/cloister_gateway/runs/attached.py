"""Files and images in messages, and images that functions returned: read by the retriever before anything is stored.

Stored is what the model is given.
"""

import base64
import binascii
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cloister_common.bodies import aside
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import InvalidRequest, NotFound, PayloadTooLarge
from cloister_common.wire.images import Detail, ReadImage
from cloister_common.wire.reading import MOST_CHARACTERS, ReadFile

from cloister_gateway.grounding.excerpts import attached_turn
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models.images import MOST_PROMPT_IMAGES
from cloister_gateway.prompt import History
from cloister_gateway.wire.inputs import InputFile, InputImage, InputMessage
from cloister_gateway.wire.items import Message, file_part, image_part, images_of

__all__ = ["AttachedFiles", "Room", "check_all_images"]

_UNNAMED = "file"

_MOST_KEPT_IMAGES = 64 * 1024 * 1024
"""Characters of all images of a conversation, or a chain of responses: each turn reads what was said before."""


@dataclass(slots=True)
class Room:
    """How much the messages of one request may have attached.

    Attributes:
        characters: Of the text of files.
        images: Characters of images, as data URLs.
    """

    characters: int = MOST_CHARACTERS
    images: int = MOST_PROMPT_IMAGES

    def take_image(self, image: ReadImage, param: str) -> None:
        """Raises `InvalidRequest` where there is no room for it."""
        self.images -= len(image.url)
        if self.images < 0:
            raise InvalidRequest(
                f"The images of one request have more than {MOST_PROMPT_IMAGES // 2**20} MiB together. Send fewer, or "
                "with 'detail': 'low'.",
                param=param,
                code="too_many_images",
            )


def check_all_images(history: History, new: Iterable[Message], *, param: str) -> None:
    """Raises `InvalidRequest` where ``new`` messages bring more images to a history than are kept of one."""
    characters = history.image_characters + sum(len(url) for message in new for url in images_of(message))
    if characters > _MOST_KEPT_IMAGES:
        raise InvalidRequest(
            f"This conversation has {_MOST_KEPT_IMAGES // 2**20} MiB of images, which is the limit. Start a new one.",
            param=param,
            code="too_many_images",
        )


class AttachedFiles:
    """Reads what is attached to messages. One instance serves all callers.

    Args:
        retriever: Has the files, the parser, and the decoders of images.
    """

    def __init__(self, retriever: RetrieverClient) -> None:
        self._retriever = retriever

    async def read(self, principal: Principal, message: InputMessage, param: str, room: Room) -> None:
        """Reads the files and images of ``message``, which stands at ``param``, so that it can be stored.

        Raises:
            Forbidden: The key may not read files.
            NotFound: There is no such file.
            InvalidRequest: A file cannot be read, has no text, or too much for one prompt; an image is none.
            PayloadTooLarge: A file is too large to be read while somebody waits.
            Unavailable: The retriever is away.
        """
        for place, part in message.files():
            where = f"{param}.content[{place}]"
            try:
                read = await self._read(principal, part, where)
            except NotFound as error:
                raise NotFound(error.message, param=f"{where}.file_id") from error
            except (InvalidRequest, PayloadTooLarge) as error:
                raise type(error)(error.message, param=where, code=error.error_code) from error
            room.characters -= len(read.text)
            if room.characters < 0:
                raise InvalidRequest(
                    f"The files of one request have more than {MOST_CHARACTERS} characters together. Put them into a "
                    "vector store, and search there.",
                    param=where,
                    code="string_above_max_length",
                )
            # Chosen now that the file has been read: nobody who wrote it can know it.
            turn = attached_turn(read.filename, read.text, secrets.token_hex(8))
            part.item = file_part(read.filename, read.file_id, turn)
        await self.read_images(principal, message.images(), f"{param}.content", room)

    async def read_images(
        self, principal: Principal, images: Sequence[tuple[int, InputImage]], param: str, room: Room
    ) -> None:
        """Reads images that stand at their places in ``param``, so that they can be stored. Raises as `read`."""
        for place, image in images:
            where = f"{param}[{place}].{'image_url' if image.file_id is None else 'file_id'}"
            detail = image.detail or "auto"
            seen = await self.see(principal, where, url=image.image_url, file_id=image.file_id, detail=detail)
            room.take_image(seen, where)
            image.item = image_part(seen.url, seen.file_id, detail)

    async def see(
        self, principal: Principal, param: str, *, url: str | None, file_id: str | None, detail: Detail
    ) -> ReadImage:
        """An image as models are given it: of a data URL or an uploaded file, as ``param`` says. Raises as `read`."""
        try:
            if file_id is not None:
                principal.require("files", param=param)
                return await self._retriever.image(
                    principal.tenant, file_id=file_id, detail=detail, caller=principal.reader
                )
            content = await aside(len(url or ""), _content, url or "", param)
            return await self._retriever.image(principal.tenant, content=content, detail=detail)
        except (NotFound, InvalidRequest, PayloadTooLarge) as error:
            raise type(error)(error.message, param=param, code=error.error_code) from error

    async def _read(self, principal: Principal, part: InputFile, where: str) -> ReadFile:
        if part.file_id is not None:
            principal.require("files", param=f"{where}.file_id")
            return await self._retriever.read(principal.tenant, file_id=part.file_id, caller=principal.reader)
        content = _content(part.file_data or "", "file_data")
        return await self._retriever.read(principal.tenant, name=part.filename or _UNNAMED, content=content)


def _content(data: str, field: str) -> bytes:
    """The bytes of base64, or of a data URL."""
    if data.startswith("data:"):
        head, _, data = data.partition(",")
        if not head.endswith(";base64"):
            raise InvalidRequest(f"'{field}' is a data URL that is not in base64. Send base64.")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"'{field}' is not base64. Send what it is in base64, or as a data URL.") from error
