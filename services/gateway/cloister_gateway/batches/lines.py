"""The input of a batch, line by line: read from the retriever in parts, so that no file is whole in memory here, and
so that a line may take as long as it takes.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson
from cloister_common.caller import Caller
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import InvalidRequest, Unavailable, UpstreamFailed
from cloister_common.logs import get_logger

__all__ = ["InputFile", "RawLine", "Request", "request_of"]

log = get_logger(__name__)

_PART_BYTES = 1024 * 1024
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_MOST_ID_CHARACTERS = 512

_FIELDS = {"custom_id", "method", "url", "body"}


class RawLine(NamedTuple):
    """A line as it stands in the file.

    Attributes:
        number: Its place, from 1. Lines without anything in them count, and are passed over.
        raw: Its bytes; of one that is over the limit only the first.
        whole: Whether that is all of it.
    """

    number: int
    raw: bytes
    whole: bool = True


class Request(NamedTuple):
    """A line as it is meant.

    Attributes:
        custom_id: What its writer calls it.
        body: What is asked of the endpoint, as JSON.
        value: The same, read.
    """

    custom_id: str
    body: bytes
    value: dict[str, Any]


class InputFile:
    """The input file of a batch.

    Args:
        retriever: Has it.
        tenant, file_id, size, caller: Whose it is, its id and its bytes, and who reads it.
        most_line_bytes: A line that is longer is not whole.
    """

    def __init__(
        self,
        retriever: RetrieverClient,
        tenant: str,
        file_id: str,
        size: int,
        *,
        caller: Caller,
        most_line_bytes: int,
    ) -> None:
        self._retriever = retriever
        self._tenant = tenant
        self._file_id = file_id
        self._size = size
        self._caller = caller
        self._most = most_line_bytes

    async def parts(self) -> AsyncIterator[list[RawLine]]:
        """All lines with something in them, in order, those that came together at a time.

        It waits for a retriever that is away, for as long as it takes.

        Raises:
            NotFound: The file is gone.
            CloisterError: It does not open.
        """
        number, rest, cut = 1, b"", False
        for start in range(0, self._size, _PART_BYTES):
            stop = min(start + _PART_BYTES, self._size)
            *ended, last = (await self._read(start, stop)).split(b"\n")
            lines = []
            for piece in ended:
                raw = rest + piece
                lines.append(RawLine(number, raw[: self._most], not cut and len(raw) <= self._most))
                number, rest, cut = number + 1, b"", False
            rest += last
            if len(rest) > self._most:
                rest, cut = rest[: self._most], True
            yield [line for line in lines if line.raw.strip() or not line.whole]
        if rest.strip():
            yield [RawLine(number, rest, not cut)]

    async def _read(self, start: int, stop: int) -> bytes:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._retriever.content(
                    self._tenant, self._file_id, start=start, stop=stop, caller=self._caller
                )
            except (Unavailable, UpstreamFailed) as error:
                log.warning("batch_input_waits", file=self._file_id, error=error.error_code)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def request_of(line: RawLine, endpoint: str, *, most_bytes: int) -> Request:
    """What a line asks for.

    Args:
        line: The line.
        endpoint: That of its batch.
        most_bytes: As long as a line may be.

    Raises:
        InvalidRequest: It is not a request to this endpoint, by its field.
    """
    if not line.whole:
        raise InvalidRequest(f"The line is over {most_bytes} bytes. Send less.", code="line_too_long")
    try:
        value = orjson.loads(line.raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            "The line is not valid JSON. Each line must be one JSON object.", code="invalid_json_line"
        ) from error
    if not isinstance(value, dict):
        raise InvalidRequest("The line is no JSON object.", code="invalid_json_line")
    for name in ("custom_id", "method", "url", "body"):
        if value.get(name) is None:
            raise InvalidRequest(
                f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter"
            )
    for name in value:
        if name not in _FIELDS:
            raise InvalidRequest(f"Unknown parameter: '{name[:64]}'.", param=name[:64], code="unknown_parameter")
    custom_id = value["custom_id"]
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _MOST_ID_CHARACTERS:
        raise InvalidRequest(
            f"'custom_id' must be a text of 1 to {_MOST_ID_CHARACTERS} characters.",
            param="custom_id",
            code="invalid_custom_id",
        )
    if value["method"] != "POST":
        raise InvalidRequest("'method' must be 'POST'.", param="method", code="invalid_method")
    if value["url"] != endpoint:
        raise InvalidRequest(
            f"'url' must be the endpoint of the batch, '{endpoint}'.", param="url", code="mismatched_endpoint"
        )
    if not isinstance(value["body"], dict):
        raise InvalidRequest("'body' must be an object.", param="body", code="invalid_body")
    return Request(custom_id, orjson.dumps(value["body"]), value["body"])
