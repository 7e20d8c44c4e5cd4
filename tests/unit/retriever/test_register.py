"""Registers: what there is of thousands of small files is known without listing them, and nothing is ever missed."""

import contextlib
import time
from collections.abc import Awaitable, Callable

import pytest
from cloister_common.errors import Unavailable
from cloister_retriever.sealed.packs import names_of
from cloister_retriever.storage import register as module
from cloister_retriever.storage.objects import ListedObject
from cloister_retriever.storage.register import Holdings

from tests.support.retriever_memory import TENANT, Killed, MemoryRoot, Stored
from tests.unit.retriever.bundled import MANY, PLACE, STORE, Counted, files, stored

__all__ = ["stored"]


class Listing(Counted):
    """A process that counts what it lists, and can do something else in between."""

    def __init__(self, stored: Stored, root: MemoryRoot) -> None:
        super().__init__(stored, root)
        self.listed: list[str] = []
        self.after: Callable[[str], Awaitable[None]] | None = None
        listing = self.objects.list

        async def counted(prefix: str) -> list[ListedObject]:
            self.listed.append(prefix)
            found = await listing(prefix)
            if self.after is not None:
                await self.after(prefix)
            return found

        self.objects.list = counted  # type: ignore[method-assign]

    @property
    def whole_listings(self) -> int:
        return sum(path.endswith(f"/packs/{STORE}") for path in self.listed)

    async def unnoted(self, numbers: range) -> None:
        """Fills the store as a retriever does that knows of no registers."""
        register = self.open_stores._packs.register

        async def nothing(tenant: str, place: str, attachment_id: str) -> None:
            return

        register.note = nothing  # type: ignore[method-assign]
        await self.fill(numbers)
        del register.note

    async def registers(self) -> list[str]:
        return [one.leaf for one in await self.objects.list("t") if "/packs-register/" in one.path]


async def test_a_store_of_many_files_is_opened_without_listing_them(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Listing(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()
    assert len(await process.registers()) == 1  # and no note
    cold = Listing(*stored)
    assert await cold.found() == files(range(MANY))
    # What another process adds and removes is seen at the next look, and the others are not looked at.
    await process.fill([MANY])
    await (await process.sealed()).delete(STORE, "vsf_3")
    assert await cold.found() == files(range(MANY + 1)) - files([3])
    assert await Listing(*stored).found() == files(range(MANY + 1)) - files([3])
    assert cold.whole_listings == 0
    # And leaves the memory of whoever has it open, though nobody searches there.
    await (await process.sealed()).delete(STORE, "vsf_4")
    await cold.open_stores.sweep()
    assert "vsf_4" not in {
        part.owner.attachment_id
        for one in cold.open_stores._stores.values()
        for block in one.blocks
        for part in block.parts
    }
    assert await cold.registers() == ["register-000000000002"]


@pytest.mark.parametrize("damage", ["cut", "altered", "of another place"])
async def test_a_register_that_does_not_open_is_replaced(stored: tuple[Stored, MemoryRoot], damage: str) -> None:
    process = Listing(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()
    [path] = [one.path for one in await process.objects.list("t") if "/packs-register/" in one.path]
    data = await process.objects.get(path) or b""
    changed = {"cut": data[:60], "altered": data[:-1] + bytes([data[-1] ^ 1]), "of another place": b""}[damage]
    await process.objects.put(path, changed)
    cold = Listing(*stored)
    assert await cold.found() == files(range(MANY))
    await cold.open_stores.sweep()
    cold = Listing(*stored)
    assert await cold.found() == files(range(MANY))
    assert cold.whole_listings == 0


async def test_a_writer_that_is_killed_at_any_write_hides_nothing(stored: tuple[Stored, MemoryRoot]) -> None:
    await Listing(*stored).fill(range(MANY))
    for left in range(200):
        process = Listing(*stored)
        await process.fill([MANY + left])
        process.fuse.writes_left = left
        with contextlib.suppress(Killed):
            await process.open_stores.sweep()
        if not process.fuse.blown:
            break
        assert await Listing(*stored).found() == files(range(MANY + left + 1)), left
    else:
        pytest.fail("it never came to an end")
    assert left > 5
    assert await Listing(*stored).found() == files(range(MANY + left + 1))


@pytest.mark.parametrize("earlier", [0, 1, 2])
@pytest.mark.parametrize("sweeps", [0, 1, 2])
@pytest.mark.parametrize("at", range(6))
async def test_what_comes_while_a_register_is_written_is_in_it_or_noted(
    stored: tuple[Stored, MemoryRoot], earlier: int, sweeps: int, at: int
) -> None:
    """Another process writes, removes and sweeps behind any of a writer's listings, and none of its own is lost."""
    first, other = Listing(*stored), Listing(*stored)
    await first.fill(range(MANY))
    for number in range(earlier):
        await first.open_stores.sweep()
        await first.fill([1000 + number])
    steps = 0

    async def between(_: str) -> None:
        nonlocal steps
        steps += 1
        if steps == at + 1:
            await other.fill([MANY])
            await (await other.sealed()).delete(STORE, "vsf_5")
            for number in range(sweeps):
                await other.open_stores.sweep()
                await other.fill([2000 + number])

    first.after = between
    await first.open_stores._packs.register.write(TENANT, PLACE.name, await first.store_key(), Holdings())
    first.after = None
    expected = {*range(MANY + (steps > at)), *range(1000, 1000 + earlier)}
    if steps > at:
        expected |= {*range(2000, 2000 + sweeps)}
        expected -= {5}
    assert await Listing(*stored).found() == files(sorted(expected))
    assert await first.found() == files(sorted(expected))
    await first.open_stores.sweep()
    assert await Listing(*stored).found() == files(sorted(expected))


async def test_what_is_known_of_a_store_goes_with_it(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Listing(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()
    await process.fill([MANY])
    await (await process.sealed()).delete(STORE)
    assert await process.registers() == []
    # Of a few files nothing stays either, though there is no register.
    await process.fill([1])
    await (await process.sealed()).delete(STORE, "vsf_1")
    assert await process.registers() == []


async def test_what_was_removed_leaves_an_open_store_though_the_first_register_was_cut_short(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    """It is removed while the register is made, which says that it is there, and whoever made it dies then."""
    first, other = Listing(*stored), Listing(*stored)
    await first.unnoted(range(MANY))  # of so many notes a look lists everything
    assert await other.found() == files(range(MANY))
    create = first.objects.create

    async def create_and_die(path: str, data: bytes) -> bool:
        await (await Listing(*stored).sealed()).delete(STORE, "vsf_5")
        await create(path, data)
        raise Killed

    first.objects.create = create_and_die  # type: ignore[method-assign]
    with contextlib.suppress(Killed):
        await first.open_stores.sweep()
    assert "register-000000000001" in await other.registers()
    await other.open_stores.sweep()
    assert await other.found() == files(range(MANY)) - files([5])
    assert "vsf_5" not in {one.attachment_id for one in names_of(_holdings(other).all)}


async def test_what_lost_its_note_before_there_was_a_register_is_noted_by_its_writer(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    first, other = Listing(*stored), Listing(*stored)
    await first.fill(range(MANY))
    create = first.objects.create

    async def later(path: str, data: bytes) -> bool:
        first.objects.create = create  # type: ignore[method-assign]
        await other.fill([MANY])
        for one in await other.objects.list("t"):
            if one.leaf.startswith(f"changed-vsf_{MANY}-"):
                await other.objects.delete(one.path)
        return await create(path, data)

    first.objects.create = later  # type: ignore[method-assign]
    await first.open_stores.sweep()
    assert await Listing(*stored).found() == files(range(MANY + 1))


async def test_a_store_without_room_for_a_register_is_still_looked_up(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Listing(*stored)
    await process.fill(range(MANY))
    assert await process.found() == files(range(MANY))
    await Listing(*stored).fill([MANY])

    def full() -> None:
        raise Unavailable("No room.", retry_after=1)

    process.objects.check_room = full  # type: ignore[method-assign]
    opened = process.open_stores._stores[TENANT, PLACE]
    await process.open_stores.sweep()
    assert process.open_stores._stores[TENANT, PLACE] is opened  # and is not read anew each minute
    assert await process.found() == files(range(MANY + 1))
    assert await process.registers() == [one for one in await process.registers() if one.startswith("changed-")]


@pytest.mark.parametrize("kept", [MANY, 10])
async def test_what_nobody_noted_is_found_by_the_next_listing_of_everything(
    stored: tuple[Stored, MemoryRoot], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a store too that has few files by now."""
    process = Listing(*stored)
    await process.fill(range(MANY))
    for _ in range(2):
        await process.open_stores.sweep()
    for number in range(kept, MANY):
        await (await process.sealed()).delete(STORE, f"vsf_{number}")
    await Listing(*stored).unnoted(range(MANY, MANY + 1))
    assert await process.found() == files(range(kept))
    monkeypatch.setattr(module, "_KEPT_SECONDS", 0.0)
    await process.open_stores.sweep()
    monkeypatch.undo()
    assert await process.found() == files([*range(kept), MANY])
    assert await Listing(*stored).found() == files([*range(kept), MANY])


def test_a_process_that_has_just_begun_lists_everything_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for ran, kept in [(1.0, 60.0), (600.0, 300.0), (100_000.0, 3600.0)]:
        monkeypatch.setattr(module, "_BEGAN", time.monotonic() - ran)
        assert not module._is_old(now - kept + 50)
        assert module._is_old(now - kept - 50)
        assert module._is_old(now + kept + 50)  # whoever wrote it has a clock that is ahead


async def test_a_register_that_is_listed_and_cannot_be_got_is_no_endless_wait(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process = Listing(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()
    get = process.objects.get

    async def without(path: str) -> bytes | None:
        return None if "-register/" in path else await get(path)

    process.objects.get = without  # type: ignore[method-assign]
    assert await process.found() == files(range(MANY))


def _holdings(process: Listing) -> Holdings:
    return process.open_stores._stores[TENANT, PLACE].holdings
