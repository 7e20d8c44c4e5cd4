"""What was read of a file, kept until it is embedded; and how much of that files may keep that wait for a limit.

They may wait for an hour, and of many tenants. Beyond a number of bytes in one process what is largest is let go, so
that nobody's large file costs another's small one: it is read again when its turn comes.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from cloister_retriever.parsing.parser import Parsed

__all__ = ["Reading", "Shelf"]

_MOST_BYTES = 128 * 1024 * 1024
_CHUNK_BYTES = 512
"""What a passage takes beside its text, which is the file's."""


class Shelf:
    """Counts what is kept for files that wait.

    Args:
        most_bytes: Of all of them.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._sizes: dict[Reading, int] = {}

    def put(self, reading: "Reading") -> None:
        """The file waits from now on, if it did not before."""
        if reading in self._sizes:
            return
        self._sizes[reading] = reading.size
        while sum(self._sizes.values()) > self._most_bytes:
            largest = max(self._sizes, key=lambda one: self._sizes[one])
            self._sizes[largest] = 0
            largest.let_go()

    def take(self, reading: "Reading") -> None:
        """The file does not wait, or not any more."""
        self._sizes.pop(reading, None)


class Reading:
    """What was read of one file.

    Args:
        read: Reads the file. Doing it again gives the same.
        shelf: Where it lies while it waits.
    """

    def __init__(self, read: Callable[[], Awaitable[Parsed]], shelf: Shelf) -> None:
        self._read = read
        self._shelf = shelf
        self._parsed: Parsed | None = None

    async def parsed(self) -> Parsed:
        """What was read; it is read where it is not there. Raises as reading does."""
        if self._parsed is None:
            self._parsed = await self._read()
        return self._parsed

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        parsed = self._parsed
        if parsed is None:
            return 0
        pictures = sum(len(one.content) + len(one.small) for one in parsed.pictures)
        return len(parsed.text.encode()) + len(parsed.chunks) * _CHUNK_BYTES + pictures

    def texts(self) -> Iterator[str]:
        """What is embedded of it."""
        if self._parsed is not None:
            text = self._parsed.text
            for chunk in self._parsed.chunks:
                yield f"{chunk.heading or ''}\n{text[chunk.start : chunk.end]}"

    @contextmanager
    def waiting(self) -> Iterator[Callable[[], None]]:
        """Gives what is called when it is not wanted for now. Behind the block it is, or never again."""
        try:
            yield lambda: self._shelf.put(self)
        finally:
            self._shelf.take(self)

    def let_go(self) -> None:
        """Forgets it until it is wanted."""
        self._parsed = None
