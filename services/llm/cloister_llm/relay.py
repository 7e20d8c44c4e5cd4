"""The last station of everything vLLM's processes write: lines of our own logs pass, any other text is only counted.

Compiled libraries write to standard output and error past Python's logging, and what they write may quote a request
(a grammar compiler quotes schemas). So the launcher puts this program at the other end of both. A line of our log
begins with a mark that nobody outside of the pod knows, which is taken off here; what comes without it is told as one
event with its size and, where it looks like the end of a traceback, the class of the exception.

It lives until the last of vLLM's processes has gone, imports nothing but the standard library, and stands in a session
of its own, so that a signal meant for vLLM does not end it before vLLM's last words.
"""

import builtins
import json
import os
import re
import select
import subprocess
import sys
from datetime import UTC, datetime

__all__ = ["Relay", "divert_output"]

_LONGEST_LINE_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
_GATHER_SECONDS = 1.0
"""How long text is gathered into one event after its last line: a traceback comes in many."""

_LAST_LINE = re.compile(rb"(?:[A-Za-z_][\w.]*\.)?([A-Za-z_]\w*)(?::|$)")
_EXCEPTIONS = frozenset(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
) | {"OutOfMemoryError"}
"""Names that may be repeated: any other could be content."""


class Relay:
    """Sorts bytes into lines of the log and other text.

    Args:
        mark: What a line of the log begins with.
        sink: File descriptor to write to.
    """

    def __init__(self, mark: bytes, sink: int) -> None:
        self._mark = mark
        self._sink = sink
        self._rest = b""
        self._lines = 0
        self._bytes = 0
        self._errors: list[str] = []

    @property
    def gathering(self) -> bool:
        """Whether there is text that has not been told yet."""
        return self._lines > 0

    def feed(self, data: bytes) -> None:
        """Takes what was read."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self._count(self._rest)
            self._rest = b""

    def end(self) -> None:
        """The last writer has gone."""
        self._take(self._rest)
        self.tell()

    def tell(self) -> None:
        """Logs what was gathered."""
        if not self.gathering:
            return
        event = {
            "service": "llm",
            "event": "text_dropped",
            "lines": self._lines,
            "bytes": self._bytes,
            "errors": self._errors,
            "level": "warning",
            "logger": "cloister_llm.relay",
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        }
        self._lines, self._bytes, self._errors = 0, 0, []
        self._write(json.dumps(event).encode())

    def _take(self, line: bytes) -> None:
        before, mark, own = line.partition(self._mark)
        if before.strip():
            self._count(before)
        if mark:
            self.tell()
            self._write(own)

    def _count(self, text: bytes) -> None:
        self._lines += 1
        self._bytes += len(text)
        named = _LAST_LINE.match(text)
        if named and (name := named[1].decode()) in _EXCEPTIONS:
            self._errors.append(name)

    def _write(self, line: bytes) -> None:
        view = memoryview(line + b"\n")
        while view:
            view = view[os.write(self._sink, view) :]


def divert_output(mark: str) -> None:
    """Puts a relay, a process of its own, behind this process's standard output and error."""
    reading, writing = os.pipe()
    # It keeps the real standard output; the pipe's other end is ours, and so ends with us and our children.
    subprocess.Popen([sys.executable, "-m", __name__], stdin=reading, start_new_session=True)  # noqa: S603 - ourselves
    os.close(reading)
    # Not as an argument, which other users of the machine can read.
    os.write(writing, f"{mark}\n".encode())
    for number in (1, 2):
        os.dup2(writing, number)
    os.close(writing)


def main() -> None:
    """Relays standard input to standard output until it ends. Its first line is the mark."""
    mark, _, rest = _until_line(0).partition(b"\n")
    relay = Relay(mark, 1)
    relay.feed(rest)
    while True:
        if not select.select([0], [], [], _GATHER_SECONDS if relay.gathering else None)[0]:
            relay.tell()
        elif data := os.read(0, _READ_BYTES):
            relay.feed(data)
        else:
            relay.end()
            return


def _until_line(source: int) -> bytes:
    data = b""
    while b"\n" not in data:
        more = os.read(source, _READ_BYTES)
        if not more:
            break
        data += more
    return data


if __name__ == "__main__":
    main()
