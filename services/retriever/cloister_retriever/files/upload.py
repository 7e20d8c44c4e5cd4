"""A multipart upload read as a stream.

Starlette's own form parser spools a file over 1 MB to a temporary file, in the clear. Here the file part is handed on
chunk by chunk as it arrives, and only the small form fields are kept.
"""

from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from cloister_common.errors import InvalidRequest
from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

__all__ = ["MultipartUpload"]

_MAX_FIELD_BYTES = 64 * 1024
_MAX_FIELDS = 32
_MAX_HEADER_BYTES = 8 * 1024


class _Part(NamedTuple):
    name: str
    filename: str | None


class MultipartUpload:
    """The parts of one ``multipart/form-data`` body.

    Call `find_file`, consume `chunks`, then `finish`: fields may come before or after the file, and are all in
    `fields` at the end.

    Args:
        content_type: The header.
        body: What follows it.
        file_field: What the part that carries the file is called.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes], *, file_field: str = "file") -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest(f"The body must be multipart/form-data with the part '{file_field}'.")
        self.fields: dict[str, str] = {}
        self._body = body
        self._file_field = file_field
        self._events: deque[tuple[str, _Part | bytes | None]] = deque()
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._file_seen = False
        self._field: tuple[str, bytearray] | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_header_name,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": lambda data, start, end: self._events.append(("data", data[start:end])),
                "on_part_end": lambda: self._events.append(("end", None)),
            },
        )

    async def find_file(self) -> str | None:
        """Reads up to the file's first byte and returns its name, or None if the body has no file."""
        while (event := await self._next()) is not None:
            kind, value = event
            if kind == "part" and isinstance(value, _Part):
                if value.filename is not None:
                    return self._begin_file(value)
                self._begin_field(value)
            else:
                self._feed_field(kind, value)
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The file's bytes as they come in.

        Raises:
            InvalidRequest: The body ends before the file does.
        """
        while (event := await self._next()) is not None:
            kind, value = event
            if kind == "end":
                return
            if isinstance(value, bytes):
                yield value
        raise InvalidRequest("The body ended in the middle of the file. Send it again.", param=self._file_field)

    async def finish(self) -> None:
        """Reads the fields after the file.

        Raises:
            InvalidRequest: There is a second file.
        """
        if await self.find_file() is not None:
            raise InvalidRequest("Send one file a request.", param=self._file_field)

    def _begin_file(self, part: _Part) -> str:
        if part.name != self._file_field:
            raise InvalidRequest(
                f"The part that carries the file must be called '{self._file_field}'.", param=part.name[:64]
            )
        return part.filename or ""

    def _begin_field(self, part: _Part) -> None:
        if len(self.fields) >= _MAX_FIELDS:
            raise InvalidRequest(f"The form has more than {_MAX_FIELDS} fields.")
        self._field = (part.name, bytearray())

    def _feed_field(self, kind: str, value: _Part | bytes | None) -> None:
        if self._field is None:
            return
        name, content = self._field
        if isinstance(value, bytes):
            content += value
            if len(content) > _MAX_FIELD_BYTES:
                raise InvalidRequest(f"A form field is over {_MAX_FIELD_BYTES} bytes.")
        elif kind == "end":
            self.fields[name] = content.decode("utf-8", "replace")
            self._field = None

    async def _next(self) -> tuple[str, _Part | bytes | None] | None:
        while not self._events:
            try:
                chunk = await anext(self._body)
            except StopAsyncIteration:
                return None
            try:
                self._parser.write(chunk)
            except MultipartParseError as error:
                raise InvalidRequest("The body is not valid multipart/form-data.") from error
        return self._events.popleft()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._check_header()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._header_name) + len(self._header_value) > _MAX_HEADER_BYTES or len(self._headers) > 16:
            raise InvalidRequest("A part's headers are too long.")

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._events.append(("part", _Part(name, None if filename is None else filename.decode("utf-8", "replace"))))
