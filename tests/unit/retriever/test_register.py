"""Registers: what there is of thousands of small files is known without listing them, and nothing is ever missed."""

import contextlib
from collections.abc import Awaitable, Callable

import pytest
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
