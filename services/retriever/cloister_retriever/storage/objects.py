"""The only file that speaks to the object store: a folder or S3, through obstore.

It stores bytes that are sealed already. Two operations carry all of the retriever's coordination between replicas:
`Objects.create`, which exactly one of several writers wins, and `Objects.put`, which replaces whole objects. Neither
a folder nor every S3 server offers compare-and-swap, so nothing here needs it.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.settings import SettingsError, read_secret
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from cloister_retriever.settings import BlobSettings

if TYPE_CHECKING:  # obstore has these names in its stubs only
    from obstore.store import ClientConfig, RetryConfig, S3Config

__all__ = ["ListedObject", "ObjectKeyStore", "Objects", "each", "open_object_store"]

log = get_logger(__name__)
A = TypeVar("A")
T = TypeVar("T")

_CALL_SECONDS = 30.0
_PARALLEL_CALLS = 16
_PART_BYTES = 5 * 1024 * 1024
"""S3's least size of a part in a multipart upload, and so what one upload holds in memory at a time."""


class ListedObject(NamedTuple):
    """One object of a listing. ``e_tag`` changes whenever the object is written."""

    path: str
    e_tag: str
    size: int

    @property
    def leaf(self) -> str:
        """The last segment of the path."""
        return self.path.rsplit("/", 1)[-1]


def open_object_store(settings: BlobSettings) -> ObjectStore:
    """The store behind ``blobs.url``. A folder is made if it is missing; S3 is not contacted yet.

    Raises:
        SettingsError: The folder cannot be made, or a secret cannot be read.
    """
    parts = urlsplit(settings.url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return LocalStore(folder, automatic_cleanup=False)
        except (OSError, BaseError) as error:
            raise SettingsError(
                f"blobs.url: cannot use the folder {folder}: {type(error).__name__}. Make it writable for this user."
            ) from error
    config: S3Config = {"bucket": parts.netloc}
    if settings.endpoint is not None:
        config["endpoint"] = settings.endpoint
    if settings.region is not None:
        config["region"] = settings.region
    if settings.access_key_id_file is not None and settings.secret_access_key_file is not None:
        config["access_key_id"] = read_secret(
            settings.access_key_id_file, what="the object store's access key id", min_bytes=3
        ).decode()
        config["secret_access_key"] = read_secret(
            settings.secret_access_key_file, what="the object store's secret access key"
        ).decode()
    client: ClientConfig = {
        "allow_http": (settings.endpoint or "").startswith("http:"),
        "timeout": "30s",
        "connect_timeout": "3s",
    }
    if settings.ca_file is not None:
        client["root_certificate"] = settings.ca_file.read_bytes()
    retry: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
    return S3Store(config=config, prefix=parts.path.strip("/") or None, client_options=client, retry_config=retry)


class Objects:
    """Whole objects by path. Paths hold random ids, times and HMAC names only."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def get(self, path: str) -> bytes | None:
        """The object, or None if there is none."""

        async def read() -> bytes:
            found = await obstore.get_async(self._store, path)
            return bytes(await found.bytes_async())

        try:
            return await _deadline(read())
        except FileNotFoundError:
            return None

    async def get_range(self, path: str, start: int, length: int) -> bytes | None:
        """``length`` bytes from ``start`` (fewer at the end), or None if there is no such object."""
        try:
            return bytes(await _deadline(obstore.get_range_async(self._store, path, start=start, length=length)))
        except FileNotFoundError:
            return None

    async def put(self, path: str, data: bytes) -> None:
        """Writes or replaces the object as a whole."""
        await _deadline(obstore.put_async(self._store, path, data))

    async def create(self, path: str, data: bytes) -> bool:
        """Writes the object unless there is one; says whether it did. Of several writers one wins."""
        try:
            await _deadline(obstore.put_async(self._store, path, data, mode="create"))
        except AlreadyExistsError:
            return False
        return True

    async def put_stream(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Writes the object from a stream; it appears only when the stream has ended well.

        An error raised by ``chunks`` aborts the upload and comes out of here.
        """
        try:
            await obstore.put_async(self._store, path, chunks, chunk_size=_PART_BYTES, max_concurrency=2)
        except BaseError as error:
            raise _unavailable(error) from error

    async def delete(self, path: str) -> None:
        """Removes the object; no error if there is none."""
        try:
            await _deadline(obstore.delete_async(self._store, path))
        except FileNotFoundError:
            return

    async def list(self, prefix: str) -> list[ListedObject]:
        """All objects under ``prefix`` (a folder), ordered by path."""

        async def read() -> list[ListedObject]:
            found = []
            async for batch in obstore.list(self._store, prefix, chunk_size=1000):
                found += [ListedObject(meta["path"], meta["e_tag"] or "", meta["size"]) for meta in batch]
            return sorted(found)

        return await _deadline(read())

    async def delete_all(self, prefix: str) -> None:
        """Removes every object under ``prefix``."""
        await each(self.delete, [listed.path for listed in await self.list(prefix)])

    async def check(self) -> None:
        """Raises `Unavailable` unless the store answers."""
        await self.get("keys/none")


class ObjectKeyStore:
    """The vault's key store over the object store. Values are wrapped keys; names are hashed to be flat paths."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def get(self, name: str) -> bytes | None:
        return await self._objects.get(self._path(name))

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        return await self._objects.create(self._path(name), wrapped)

    async def delete(self, name: str) -> None:
        await self._objects.delete(self._path(name))

    def _path(self, name: str) -> str:
        return f"keys/{hashlib.sha256(name.encode()).hexdigest()}"


async def each(act: Callable[[A], Awaitable[T]], items: Iterable[A]) -> list[T]:
    """Runs ``act`` on every item, a few at a time, and returns the results in order."""
    gate = asyncio.Semaphore(_PARALLEL_CALLS)

    async def one(item: A) -> T:
        async with gate:
            return await act(item)

    return list(await asyncio.gather(*(one(item) for item in items)))


async def _deadline(call: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(_CALL_SECONDS):
            return await call
    except AlreadyExistsError:
        raise
    except (BaseError, TimeoutError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    log.error("object_store_failed", reason=type(error).__name__)
    return Unavailable("The object store does not answer. Try again in a moment.", retry_after=5)
