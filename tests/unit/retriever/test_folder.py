"""The folder store: what returned is on the disk, one creator wins, and a write that failed leaves nothing."""

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cloister_common import disk
from cloister_common.errors import Unavailable
from cloister_retriever.storage.folder import FolderObjects

Steps = list[tuple[str, str]]


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path)


@pytest.fixture
def steps(objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """What the store asks of the disk from here on: ``(call, path below the root)``; staged names are ``*``."""
    seen: Steps = []

    def below(path: str | Path) -> str:
        inside = Path(path).relative_to(tmp_path)
        return "*" if inside.parent.name == "staging" else str(inside)

    def note(module: Any, name: str, path_of: Callable[..., str | Path]) -> None:
        really = getattr(module, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            path = below(path_of(*arguments))  # before the call: a number has no name after it
            result = really(*arguments, **options)
            seen.append((name, path))
            return result

        monkeypatch.setattr(module, name, noted)

    note(os, "fsync", lambda number: Path(f"/proc/self/fd/{number}").readlink())
    note(os, "replace", lambda _, target: target)
    note(os, "link", lambda _, target: target)
    note(Path, "unlink", lambda path, **_: path)
    return seen


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


WRITES: list[tuple[str, Callable[[FolderObjects, str], Awaitable[object]]]] = [
    ("replace", lambda objects, path: objects.put(path, b"data")),
    ("link", lambda objects, path: objects.create(path, b"data")),
    ("replace", lambda objects, path: objects.put_stream(path, pieces(b"da", b"ta"))),
]


@pytest.mark.parametrize(("placed", "write"), WRITES, ids=["put", "create", "stream"])
async def test_a_write_that_returned_is_synced_with_every_name_on_its_way(
    objects: FolderObjects, steps: Steps, placed: str, write: Callable[[FolderObjects, str], Awaitable[object]]
) -> None:
    await write(objects, "t/one")
    assert await objects.get("t/one") == b"data"
    assert steps == [("fsync", "*"), ("fsync", "."), (placed, "t/one"), ("fsync", "t"), ("unlink", "*")]
    steps.clear()
    await write(objects, "t/two")
    assert steps == [("fsync", "*"), (placed, "t/two"), ("fsync", "t"), ("unlink", "*")]


async def test_a_folder_that_another_process_made_is_synced_too(
    objects: FolderObjects, steps: Steps, tmp_path: Path
) -> None:
    (tmp_path / "t" / "deep").mkdir(parents=True)
    await objects.put("t/deep/one", b"data")
    assert [path for call, path in steps if call == "fsync"] == ["*", ".", "t", "t/deep"]


async def test_a_deletion_that_returned_is_synced(objects: FolderObjects, steps: Steps) -> None:
    await objects.put("t/one", b"data")
    steps.clear()
    await objects.delete("t/one")
    await objects.delete("t/one")
    await objects.delete("nowhere/one")
    assert steps == [("unlink", "t/one"), ("fsync", "t")] * 2 + [("unlink", "nowhere/one")]
    assert await objects.list("t") == []


async def test_of_writers_in_several_processes_one_creates_the_object(tmp_path: Path) -> None:
    stores = [FolderObjects(tmp_path) for _ in range(4)]
    for turn in range(5):
        won = await asyncio.gather(
            *(stores[number % 4].create(f"t/{turn}", str(number).encode()) for number in range(16))
        )
        assert won.count(True) == 1
        assert await stores[0].get(f"t/{turn}") == str(won.index(True)).encode()


async def test_a_reader_sees_a_whole_object_or_none(tmp_path: Path) -> None:
    writer, reader = FolderObjects(tmp_path), FolderObjects(tmp_path)
    versions = [bytes([number]) * 200_000 for number in range(30)]
    writing = asyncio.create_task(_each(writer, versions))
    while not writing.done():
        seen = await reader.get("t/one")
        assert seen is None or seen in versions
    assert await reader.get("t/one") == versions[-1]


async def _each(objects: FolderObjects, versions: list[bytes]) -> None:
    for version in versions:
        await objects.put("t/one", version)


async def test_a_stream_that_fails_leaves_what_was_there(objects: FolderObjects, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"new"
        raise ConnectionError

    await objects.put("t/one", b"old")
    with pytest.raises(ConnectionError):
        await objects.put_stream("t/one", broken())
    assert await objects.get("t/one") == b"old"
    assert list((tmp_path / "staging").iterdir()) == []


async def test_a_stream_that_was_cancelled_leaves_nothing(objects: FolderObjects, tmp_path: Path) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"one"
        started.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(objects.put_stream("t/one", endless()))
    await started.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await objects.get("t/one") is None
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "is full"), (errno.EIO, "does not answer")])
async def test_a_disk_that_fails_is_unavailable_and_leaves_nothing(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "as the test asked")

    monkeypatch.setattr(os, "fsync", fail)
    for _, write in WRITES:
        with pytest.raises(Unavailable, match=words):
            await write(objects, "t/one")
    assert not (tmp_path / "t" / "one").exists()
    assert list((tmp_path / "staging").iterdir()) == []


async def test_below_the_floor_nothing_is_taken_in_and_what_is_under_way_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 300 * 1024 * 1024
    monkeypatch.setattr(disk, "disk_usage", lambda _: SimpleNamespace(total=100 * 1024**3, free=free))
    objects = FolderObjects(tmp_path, min_free_mib=256)

    async def filling() -> AsyncIterator[bytes]:
        nonlocal free
        yield b"first"
        free = 255 * 1024 * 1024
        yield b"second"

    await objects.put_stream("t/one", pieces(b"data"))
    with pytest.raises(Unavailable, match="is full"):
        await objects.put_stream("t/two", filling())
    with pytest.raises(Unavailable, match="is full"):
        objects.check_room()
    assert await objects.get("t/two") is None
    assert list((tmp_path / "staging").iterdir()) == []
    await objects.put("t/lease", b"mine")
    await objects.delete("t/lease")
    assert await objects.get("t/one") == b"data"
    free = 257 * 1024 * 1024
    await objects.put_stream("t/two", pieces(b"data"))


def test_only_what_a_dead_process_left_is_cleared_away(tmp_path: Path) -> None:
    FolderObjects(tmp_path)
    for name, age in (("dead", 90_000), ("alive", 10)):
        (tmp_path / "staging" / name).write_bytes(b"half")
        os.utime(tmp_path / "staging" / name, (time.time() - age, time.time() - age))
    FolderObjects(tmp_path)
    assert [left.name for left in (tmp_path / "staging").iterdir()] == ["alive"]


async def test_nobody_else_may_read_the_objects(objects: FolderObjects, tmp_path: Path) -> None:
    await objects.put("t/one", b"data")
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("t", "t/one", "staging")]
    assert modes == [0o700, 0o600, 0o700]


async def test_a_range_beyond_an_object_that_was_cut_is_empty(objects: FolderObjects) -> None:
    await objects.put("t/one", b"0123456789")
    assert await objects.get_range("t/one", 8, 5) == b"89"
    assert await objects.get_range("t/one", 10, 5) == b""
    assert await objects.get_range("t/two", 10, 5) is None
