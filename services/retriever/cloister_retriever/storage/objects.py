"""The object store: whole objects by path, through obstore (`cloister_retriever.storage.folder` writes to folders).

It stores bytes that are sealed already. Two operations carry all of the retriever's coordination between replicas:
`Objects.create`, which exactly one of several writers wins, and `Objects.put`, which replaces whole objects. Not every
S3 server offers compare-and-swap, so only what an operator may do without needs `Objects.replace`: wrapping keys anew,
and limits on what is ingested.
"""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import obstore
from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import ObjectStore

if TYPE_CHECKING:  # obstore has these names in its stubs only
    from obstore import ObjectMeta, UpdateVersion

__all__ = ["ListedObject", "Objects", "bounded", "each", "unavailable"]

log = get_logger(__name__)
A = TypeVar("A")
T = TypeVar("T")

_CALL_SECONDS = 30.0
_PARALLEL_CALLS = 16
_PART_BYTES = 5 * 1024 * 1024
"""S3's least size of a part in a multipart upload, and so what one upload holds in memory at a time."""


_LISTED_AT_ONCE = 1000
"""What S3 gives in one answer."""


class ListedObject(NamedTuple):
    """One object of a listing. ``e_tag`` changes whenever the object is written."""

    path: str
    e_tag: str
    size: int

    @property
    def leaf(self) -> str:
        """The last segment of the path."""
        return self.path.rsplit("/", 1)[-1]


class Objects:
    """Whole objects by path. Paths hold random ids, times and HMAC names only.

    What `put`, `create`, `put_stream` and `delete` did is durable when they return.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def check_room(self) -> None:
        """Raises `Unavailable` while the store may take nothing new in. A bucket says so by itself."""

    async def get(self, path: str) -> bytes | None:
        """The object, or None if there is none."""

        async def read() -> bytes:
            found = await obstore.get_async(self._store, path)
            return bytes(await found.bytes_async())

        try:
            return await bounded(read())
        except FileNotFoundError:
            return None

    async def get_range(self, path: str, start: int, length: int) -> bytes | None:
        """``length`` bytes from ``start`` (fewer at the end, none beyond it), or None if there is no such object."""
        try:
            return bytes(await bounded(obstore.get_range_async(self._store, path, start=start, length=length)))
        except FileNotFoundError:
            return None
        except Unavailable:
            # To obstore a range beyond the end is a failure like any other: an object that was cut short is no outage.
            if (await bounded(obstore.head_async(self._store, path)))["size"] > start:
                raise
            return b""

    async def size(self, path: str) -> int | None:
        """How many bytes the object has, or None if there is none."""
        try:
            return int((await bounded(obstore.head_async(self._store, path)))["size"])
        except FileNotFoundError:
            return None

    async def look(self, path: str) -> ListedObject | None:
        """The object as a listing shows it, or None if there is none."""
        try:
            meta = await bounded(obstore.head_async(self._store, path))
        except FileNotFoundError:
            return None
        return ListedObject(meta["path"], meta["e_tag"] or "", meta["size"])

    async def put(self, path: str, data: bytes) -> None:
        """Writes or replaces the object as a whole."""
        await bounded(obstore.put_async(self._store, path, data))

    async def create(self, path: str, data: bytes) -> bool:
        """Writes the object unless there is one; says whether it did. Of several writers one wins."""
        try:
            await bounded(obstore.put_async(self._store, path, data, mode="create"))
        except AlreadyExistsError:
            return False
        return True

    async def replace(self, path: str, expected: bytes, data: bytes) -> bool:
        """Writes ``data`` in the place of ``expected``; says whether it did, which is not if anything else is there.

        Raises:
            Unavailable: As all calls; also where an S3 server does not know ``If-Match``.
        """
        try:
            found = await bounded(obstore.get_async(self._store, path))
            if bytes(await bounded(found.bytes_async())) != expected:
                return False
            unchanged: UpdateVersion = {"e_tag": found.meta["e_tag"] or ""}
            await bounded(obstore.put_async(self._store, path, data, mode=unchanged))
        except (FileNotFoundError, PreconditionError):
            return False
        return True

    async def put_stream(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Writes the object from a stream; it appears only when the stream has ended well.

        An error raised by ``chunks`` aborts the upload and comes out of here.
        """
        try:
            await obstore.put_async(self._store, path, chunks, chunk_size=_PART_BYTES, max_concurrency=2)
        except BaseError as error:
            raise unavailable(error) from error

    async def delete(self, path: str) -> None:
        """Removes the object; no error if there is none."""
        try:
            await bounded(obstore.delete_async(self._store, path))
        except FileNotFoundError:
            return

    async def between(
        self, prefix: str, *, after: str = "", until: str | None = None
    ) -> AsyncIterator[list[ListedObject]]:
        """The objects of a folder whose last segment lies between the two, which are not among them; some at a time.

        Ordered by path. A store reads no more of the folder than what is taken from here, give or take a thousand.
        """
        offset = f"{prefix}/{after}" if after else None
        stream = obstore.list(self._store, prefix, offset=offset, chunk_size=_LISTED_AT_ONCE)
        while (batch := await bounded(_next(stream))) is not None:
            found = [ListedObject(meta["path"], meta["e_tag"] or "", meta["size"]) for meta in batch]
            inside = [listed for listed in found if until is None or listed.leaf < until]
            if inside:
                yield inside
            if len(inside) < len(found):
                return

    async def list(self, prefix: str) -> list[ListedObject]:
        """All objects under ``prefix`` (a folder), ordered by path."""

        async def read() -> list[ListedObject]:
            found = []
            async for batch in obstore.list(self._store, prefix, chunk_size=_LISTED_AT_ONCE):
                found += [ListedObject(meta["path"], meta["e_tag"] or "", meta["size"]) for meta in batch]
            return sorted(found)

        return await bounded(read())

    async def delete_all(self, prefix: str) -> None:
        """Removes every object under ``prefix``."""
        await each(self.delete, [listed.path for listed in await self.list(prefix)])

    async def check(self) -> None:
        """Raises `Unavailable` unless the store answers."""
        await self.get("keys/none")


async def each(act: Callable[[A], Awaitable[T]], items: Iterable[A]) -> list[T]:
    """Runs ``act`` on every item, a few at a time, and returns the results in order."""
    gate = asyncio.Semaphore(_PARALLEL_CALLS)

    async def one(item: A) -> T:
        async with gate:
            return await act(item)

    return list(await asyncio.gather(*(one(item) for item in items)))


async def _next(stream: "AsyncIterator[Sequence[ObjectMeta]]") -> "Sequence[ObjectMeta] | None":
    return await anext(stream, None)


async def bounded(call: Awaitable[T]) -> T:
    """``call`` under the deadline of one call to the store.

    Raises:
        FileNotFoundError, FileExistsError, PreconditionError: What they say; the caller knows what to make of it.
        Unavailable: The store failed, or took too long.
    """
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            return await call
    except (AlreadyExistsError, FileExistsError, FileNotFoundError, PreconditionError):
        raise
    except (BaseError, OSError) as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> Unavailable:
    """What a caller is told of a store that failed with ``error``; the log has the reason."""
    number = error.errno if isinstance(error, OSError) else None
    log.error("object_store_failed", reason=errno.errorcode.get(number or 0, type(error).__name__))
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return Unavailable(
            "The object store is full: its disk has no room left. What is stored can be read and deleted; nothing new "
            "is taken until its operator has made room.",
            retry_after=60,
        )
    return Unavailable("The object store does not answer. Try again in a moment.", retry_after=5)
