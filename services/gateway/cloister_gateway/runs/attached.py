"""Files in messages: read by the retriever before anything is stored; stored is the turn that the model is given."""

import base64
import binascii
import secrets

from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import InvalidRequest, NotFound, PayloadTooLarge
from cloister_common.wire.reading import MOST_CHARACTERS, ReadFile

from cloister_gateway.grounding.excerpts import attached_turn
from cloister_gateway.identity.principal import Principal
from cloister_gateway.wire.inputs import InputFile, InputMessage
from cloister_gateway.wire.items import file_part

__all__ = ["AttachedFiles"]

_UNNAMED = "file"


class AttachedFiles:
    """Reads files in messages. One instance serves all callers.

    Args:
        retriever: Has the files, and the parser.
    """

    def __init__(self, retriever: RetrieverClient) -> None:
        self._retriever = retriever

    async def read(
        self, principal: Principal, message: InputMessage, param: str, *, room: int = MOST_CHARACTERS
    ) -> int:
        """Reads the files of ``message``, which stands at ``param``, so that it can be stored.

        Args:
            principal: Whose files they are.
            message: With the files.
            param: Its place.
            room: How many characters all of them may have.

        Returns:
            The room that is left.

        Raises:
            Forbidden: The key may not read files.
            NotFound: There is no such file.
            InvalidRequest: A file cannot be read, has no text, or too much for one prompt.
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
            room -= len(read.text)
            if room < 0:
                raise InvalidRequest(
                    f"The files of one request have more than {MOST_CHARACTERS} characters together. Put them into a "
                    "vector store, and search there.",
                    param=where,
                    code="string_above_max_length",
                )
            # Chosen now that the file has been read: nobody who wrote it can know it.
            turn = attached_turn(read.filename, read.text, secrets.token_hex(8))
            part.item = file_part(read.filename, read.file_id, turn)
        return room

    async def _read(self, principal: Principal, part: InputFile, where: str) -> ReadFile:
        if part.file_id is not None:
            principal.require("files", param=f"{where}.file_id")
            return await self._retriever.read(principal.tenant, file_id=part.file_id, caller=principal.reader)
        content = _content(part.file_data or "")
        return await self._retriever.read(principal.tenant, name=part.filename or _UNNAMED, content=content)


def _content(data: str) -> bytes:
    """The bytes of base64, or of a data URL."""
    if data.startswith("data:"):
        head, _, data = data.partition(",")
        if not head.endswith(";base64"):
            raise InvalidRequest("'file_data' is a data URL that is not in base64. Send base64.")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("'file_data' is not base64. Send the file in base64, or as a data URL.") from error
