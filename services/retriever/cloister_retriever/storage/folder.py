"""A folder as the object store: what was acknowledged is on the disk, even when the power fails.

obstore's own writes to a folder stay in the system's memory for as long as it likes. Here an object is written under
a name in ``staging``, synced, put in its place in one step (a rename, or a link where it must be new), and the folder
that names it is synced; then it is acknowledged. Deletions are synced too: what is done next relies on them.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

from cloister_common.disk import DiskFloor
from cloister_common.ids import new_id
from obstore.store import LocalStore

from cloister_retriever.storage.objects import ListedObject, Objects, bounded, unavailable

__all__ = ["FolderObjects"]

T = TypeVar("T")

_STALE_SECONDS = 86_400.0
"""A staged file that was not written to for this long belonged to a process that died."""

_KNOWN_FOLDERS = 10_000
_THREADS = 16
"""They wait for the disk, not for a processor, and what waits together is synced together."""

_LOOKED_AT_AT_ONCE = 100
"""About a millisecond."""

Place = Callable[[Path, Path], None]
"""Gives a staged file its name."""


class FolderObjects(Objects):
    """Objects in a folder, which any number of processes of this machine may share.

    Args:
        root: The folder. It is made if it is missing.
        min_free_mib: Below this on its disk nothing is taken in (`check_room`); what is under way, deletions too, may
            write what it must.

    Raises:
        OSError: It cannot be made or written to.
    """

    def __init__(self, root: Path, *, min_free_mib: int = 0) -> None:
        self._root = root
        self._floor = DiskFloor(root, min_free_mib)
        self._staging = root / "staging"
        _make(self._staging)
        self._named: set[Path] = set()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="folder")
        super().__init__(LocalStore(root, automatic_cleanup=False))
        for left in self._staging.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process may clear away too
                if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                    left.unlink()

    def check_room(self) -> None:
        try:
            short = self._floor.missing() > 0
        except OSError as error:
            raise unavailable(error) from error
        if short:
            raise unavailable(OSError(errno.ENOSPC, "below blobs.min_free_mib"))

    async def put(self, path: str, data: bytes) -> None:
        await bounded(self._in_thread(self._write, path, data, os.replace))

    async def create(self, path: str, data: bytes) -> bool:
        try:
            await bounded(self._in_thread(self._write, path, data, os.link))
        except FileExistsError:
            return False
        return True

    async def replace(self, path: str, expected: bytes, data: bytes) -> bool:
        return await bounded(self._in_thread(self._replace, path, expected, data))

    async def put_stream(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        self.check_room()
        staged = self._staging / new_id("")
        file = await bounded(self._in_thread(_new_file, staged))
        try:
            async for chunk in chunks:
                self.check_room()
                await bounded(self._in_thread(file.write, chunk))
            await bounded(self._in_thread(self._finish, file, staged, path, os.replace))
        finally:
            # Without its staged name a write that was cancelled, and still runs in its thread, cannot be put in place.
            await self._in_thread(_discard, file, staged)

    async def delete(self, path: str) -> None:
        await bounded(self._in_thread(self._delete, self._root / path))

    async def between(
        self, prefix: str, *, after: str = "", until: str | None = None
    ) -> AsyncIterator[list[ListedObject]]:
        # The names are all read, in no order, which is quick; what takes long is to look at each.
        names = await bounded(self._in_thread(_names, self._root / prefix, after, until))
        for first in range(0, len(names), _LOOKED_AT_AT_ONCE):
            yield await bounded(self._in_thread(self._look_at, prefix, names[first : first + _LOOKED_AT_AT_ONCE]))

    def _in_thread(self, work: Callable[..., T], *arguments: object) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _write(self, path: str, data: bytes, place: Place) -> None:
        staged = self._staging / new_id("")
        file = _new_file(staged)
        try:
            file.write(data)
            self._finish(file, staged, path, place)
        finally:
            _discard(file, staged)

    def _finish(self, file: BinaryIO, staged: Path, path: str, place: Place) -> None:
        file.flush()
        os.fsync(file.fileno())
        target = self._root / path
        self._make_durable(target.parent)
        place(staged, target)
        _sync(target.parent)

    def _make_durable(self, folder: Path) -> None:
        """Makes ``folder`` and those above it. Also syncs what another process made, and may not have synced yet."""
        if folder == self._root or folder in self._named:
            return
        self._make_durable(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync(folder.parent)
        if len(self._named) >= _KNOWN_FOLDERS:
            self._named.clear()
        self._named.add(folder)

    def _replace(self, path: str, expected: bytes, data: bytes) -> bool:
        with _locked(self._root / path) as file:
            if file is None or file.read() != expected:
                return False
            self._write(path, data, os.replace)
        return True

    def _look_at(self, prefix: str, names: list[str]) -> list[ListedObject]:
        found = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                facts = (self._root / prefix / name).stat()
                written = f"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_size:x}"
                found.append(ListedObject(f"{prefix}/{name}", written, facts.st_size))
        return found

    def _delete(self, target: Path) -> None:
        # What is being replaced at this moment is replaced first: else its new content would come after its end.
        with _locked(target):
            target.unlink(missing_ok=True)
        # Also where it was gone already: whoever removed it may not have synced that yet.
        with contextlib.suppress(FileNotFoundError):
            _sync(target.parent)


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[BinaryIO | None]:
    """The file, held against every process that replaces or deletes it; None if there is none. Readers do not wait."""
    while True:
        try:
            file = target.open("rb")
        except FileNotFoundError:
            yield None
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                same = target.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                same = False
            if same:
                yield file
                return
        # Another file has the name by now: that is the one to hold.


def _names(folder: Path, after: str, until: str | None) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name for entry in entries if after < entry.name and (until is None or entry.name < until)
            )
    except FileNotFoundError:
        return []


def _make(folder: Path) -> None:
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync(folder.parent)


def _new_file(staged: Path) -> BinaryIO:
    return os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _discard(file: BinaryIO, staged: Path) -> None:
    staged.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # what a full disk did not take was reported when it was written
        file.close()


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
