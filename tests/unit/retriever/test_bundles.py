"""Bundles: a sealed store of many small files opens in a few reads, and what was deleted is in no copy either."""

import contextlib
from collections.abc import Mapping

import numpy as np
import pytest
from cloister_common.wire.search import SearchRequest
from cloister_retriever.editions import Place
from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.keys import (
    edition_keys,
)
from cloister_retriever.sealed.block import Part
from cloister_retriever.sealed.pack import MOST_PASSAGES
from cloister_retriever.storage.bundling import FEW_LOOSE, Plan, planned
from cloister_retriever.terms.weights import TermKey
from cloister_retriever.vector_stores.schemas import CreateStore
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.retriever_memory import TENANT, Killed, MemoryProcess, MemoryRoot, Stored
from tests.unit.retriever.bundled import MANY, OTHER, PLACE, STORE, Counted, files, place_of, stored, term_of, vector_of
from tests.unit.retriever.test_crashes import settled, short_pauses

__all__ = ["short_pauses", "stored"]


async def test_a_store_of_many_small_files_is_read_out_of_bundles(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()  # of whoever wrote it, though nobody has searched
    assert len(await process.ids()) == 1
    cold = Counted(*stored)
    assert await cold.found() == files(range(MANY))
    assert not [path for path in cold.read if "/packs/vs_1/" in path]
    assert len(cold.read) < 10
    # What came later is read beside, and what was changed is read anew.
    await process.fill([5, MANY])
    cold = Counted(*stored)
    assert await cold.found() == files(range(MANY + 1))
    assert len([path for path in cold.read if "/packs/vs_1/" in path]) == 2


async def test_passages_out_of_bundles_open_and_are_those_of_the_packs(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    one_by_one = await process.open_stores.blocks(TENANT, PLACE, await process.store_key(), fresh=True)
    await process.open_stores.sweep()
    cold = Counted(*stored)
    out_of_bundles = await cold.open_stores.blocks(TENANT, PLACE, await cold.store_key(), fresh=True)
    hits = [
        {hit.passage.id: hit for block in blocks for row in range(len(block)) if (hit := block.hit(row))}
        for blocks in (one_by_one, out_of_bundles)
    ]
    assert hits[0].keys() == hits[1].keys()
    for name, hit in hits[0].items():
        assert hit._replace(exact=None) == hits[1][name]._replace(exact=None)
        assert np.array_equal(hit.exact, hits[1][name].exact)  # type: ignore[arg-type]


async def test_a_bundle_shows_no_text_no_vector_and_no_term(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()
    await process.found()
    data = b"".join([await process.objects.get(path) or b"" for path in await process.paths()])
    assert len(data) > MANY * 40
    block, *_ = await process.open_stores.blocks(TENANT, PLACE, await process.store_key(), fresh=False)
    for number in range(MANY):
        assert f"word{number}".encode() not in data
        assert term_of(number).to_bytes(4, "little") not in data
        assert vector_of(number)[:2].tobytes() not in data
        assert block.vectors[number].tobytes() not in data


async def test_hidden_attachments_are_left_out_of_what_bundles_have(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()
    cold = Counted(*stored)
    assert await cold.found(without=["vsf_3", "vsf_4"]) == files(range(MANY)) - files([3, 4])


async def test_what_is_removed_is_in_no_bundle_and_its_key_is_destroyed(stored: tuple[Stored, MemoryRoot]) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()
    kept = {path: await process.objects.get(path) for path in await process.paths()}
    await (await process.sealed()).delete(STORE, "vsf_7")
    assert (await process.paths(), await process.bundle_keys()) == ([], [])
    assert await Counted(*stored).found() == files(range(MANY)) - files([7])
    # Also where a backup brings the bundle back, and packs of the other files are there as they were.
    for path, data in kept.items():
        await process.objects.put(path, data or b"")
    cold = Counted(*stored)
    assert await cold.found() == files(range(MANY)) - files([7])
    [left] = await cold.ids()
    assert await cold.bundles.read(TENANT, PLACE.name, "packs", left, await cold.store_key()) is None
    # The others come into another one, in the same folder: a disk keeps empty ones.
    await process.fill([MANY])
    await process.open_stores.sweep()
    assert {path.rpartition("/")[0] for path in [*kept, *await process.paths()]} == {
        next(iter(kept)).rpartition("/")[0]
    }
    cold = Counted(*stored)
    assert await cold.found() == files(range(MANY + 1)) - files([7])
    assert not [path for path in cold.read if "/packs/vs_1/" in path]
    await (await process.sealed()).delete(STORE)
    assert (await process.paths(), await process.bundle_keys()) == ([], [])


async def test_a_bundle_of_another_store_or_tenant_or_bundle_is_refused_and_replaced(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.fill(range(1000, 1000 + MANY), OTHER)
    await process.open_stores.sweep()
    [theirs] = await process.bundles.list(OTHER, place_of(OTHER).name, "packs")
    [ours] = await process.ids()
    [their_data] = [one.path for one in await process.objects.list("t") if f"{theirs}-data" in one.path]
    [our_data] = [path for path in await process.paths() if f"{ours}-data" in path]
    await process.objects.put(our_data, await process.objects.get(their_data) or b"")
    cold = Counted(*stored)
    assert await cold.found() == files(range(MANY))
    await cold.open_stores.sweep()
    [new] = await cold.ids()
    assert new != ours
    cold = Counted(*stored)
    assert await cold.found() == files(range(MANY))
    assert not [path for path in cold.read if "/packs/vs_1/" in path]


@pytest.mark.parametrize("damage", ["cut", "altered"])
async def test_a_damaged_bundle_takes_nothing_along(stored: tuple[Stored, MemoryRoot], damage: str) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    await process.open_stores.sweep()
    [path] = [path for path in await process.paths() if path.endswith("-data")]
    data = await process.objects.get(path) or b""
    await process.objects.put(path, data[:100] if damage == "cut" else data[:200] + bytes([data[200] ^ 1]) + data[201:])
    assert await Counted(*stored).found() == files(range(MANY))


async def test_a_writer_of_bundles_that_is_killed_at_any_write_leaves_nothing_wrong(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process = Counted(*stored)
    await process.fill(range(MANY))
    writes = 0
    while True:
        victim = Counted(*stored)
        assert await victim.found() == files(range(MANY))
        victim.fuse.writes_left = writes
        with contextlib.suppress(Killed):
            await victim.open_stores.sweep()
        after = Counted(*stored)
        assert await after.found() == files(range(MANY))
        await (await after.sealed()).delete(STORE, "vsf_none")
        if not victim.fuse.blown:
            break
        # Whatever was left, a deletion leaves nothing of it.
        await after.fill([MANY])
        await after.bundles.drop(TENANT, PLACE.name)
        assert await after.paths() == []
        await (await after.sealed()).delete(STORE, f"vsf_{MANY}")
        writes += 1
    assert writes >= 3
    assert len(await after.ids()) == 1


async def test_a_deletion_that_is_killed_at_any_write_is_whole_after_the_next(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process = Counted(*stored)
    writes = 0
    while True:
        await process.fill(range(MANY))
        await process.open_stores.sweep()
        assert len(await process.ids()) == 1
        victim = Counted(*stored)
        index = await victim.sealed()
        victim.fuse.writes_left = writes
        with contextlib.suppress(Killed):
            await index.delete(STORE, "vsf_7")
        again = Counted(*stored)
        await (await again.sealed()).delete(STORE, "vsf_7")
        assert (await again.paths(), await again.bundle_keys()) == ([], [])
        if not victim.fuse.blown:
            return
        writes += 1


async def test_what_is_removed_while_it_is_bundled_is_in_no_bundle_that_opens(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process, other = Counted(*stored), Counted(*stored)
    await process.fill(range(MANY))
    put = process.objects.put
    for moment in ("-members", "-data"):

        async def meanwhile(path: str, data: bytes, moment: str = moment) -> None:
            if path.endswith(moment):
                await (await other.sealed()).delete(STORE, "vsf_7")
            await put(path, data)

        process.objects.put = meanwhile  # type: ignore[method-assign]
        await process.open_stores.sweep()
        process.objects.put = put  # type: ignore[method-assign]
        cold = Counted(*stored)
        for left in await cold.ids():
            assert await cold.bundles.read(TENANT, PLACE.name, "packs", left, await cold.store_key()) is None
        assert await cold.found() == files(range(MANY)) - files([7])
        await process.fill([7])


async def test_a_file_that_is_deleted_leaves_nothing_in_bundles_of_passages_and_of_words(
    stored: tuple[Stored, MemoryRoot],
) -> None:
    process = MemoryProcess(*stored, sealed_passages=1000)
    ids = [(await process.upload(f"room{number}")).id for number in range(MANY)]
    store = (await process.stores.create(TENANT, CreateStore(file_ids=ids, protection="sealed"))).id
    await settled(process)

    async def bundled(process: MemoryProcess) -> dict[str, str]:
        """What bundles say that they have, by their kind."""
        await process.open_stores.sweep()
        await process.words.sweep()
        listed = [one.path for one in await process.objects.list("t") if one.path.endswith("-members")]
        return {path.split("/")[4]: (await process.objects.get(path) or b"").decode() for path in listed}

    async def found(process: MemoryProcess, query: str) -> list[str]:
        request = SearchRequest(query=query, max_num_results=3)
        return [one.file_id for one in await process.search.search(TENANT, [store], request)]

    opened = await process.stores.get(TENANT, store)
    attached = {one.record.file_id: one.record.id for one in await process.attachments.list(TENANT, store, opened.key)}
    assert all(set(attached.values()) == set(has.split("\n")) for has in (await bundled(process)).values())
    cold = Counted(*stored)
    assert (await found(cold, "room9"))[0] == ids[9]
    assert not [path for path in cold.read if f"/packs/{store}/" in path or f"/words/{store}/vsf" in path]
    before = await process.words.of(TENANT, Place(store), opened.key, 0.0)
    after = await cold.words.of(TENANT, Place(store), opened.key, 0.0)
    assert (before.frequencies().passages, len(after.segments)) == (MANY, 1)
    terms = [TermKey(edition_keys(opened.key).terms).id_of(word) for word in ("room9", "room1", "room")]
    assert after.frequencies().of(terms) == before.frequencies().of(terms)

    await process.files.delete(TENANT, ids[9], process.stores.detach_file)
    await process.attachments.detach(TENANT, store, opened.key, ids[8])
    assert not [one.path for one in await process.objects.list("t") if "/bundles/" in one.path]
    has = await bundled(process)
    assert set(has) == {"packs", "words"}
    assert all({attached[ids[9]], attached[ids[8]]}.isdisjoint(of.split("\n")) for of in has.values())
    assert {ids[8], ids[9]}.isdisjoint(await found(Counted(*stored), "room9"))
    await process.stores.delete(TENANT, store)
    assert not [one.path for one in await process.objects.list("") if "bundle" in one.path]


def test_a_plan_looks_at_each_thing_a_few_times_however_many_there_are() -> None:
    asked = 0

    def size(_: int) -> int:
        nonlocal asked
        asked += 1
        return 1

    there = dict.fromkeys(range(5_000), "tag")
    plan = planned(there, there.keys(), {"bdl_1": dict.fromkeys(range(100), "tag")}, size=size, most=2_000)
    assert [len(group) for group in plan.groups] == [2_000, 2_000, 1_000]
    assert asked < 5 * len(there)


OWNER = PassageOwner(TENANT, STORE, "file-1", "vsf_1")


@given(
    rounds=st.lists(st.integers(1, 3 * FEW_LOOSE), min_size=1, max_size=12),
    size=st.sampled_from([1, 7, 200]),
)
@settings(max_examples=40, deadline=None)
def test_bundles_of_a_growing_store_are_few_and_seldom_copied(rounds: list[int], size: int) -> None:
    bundles: dict[str, Mapping[Part, str]] = {}
    there: dict[Part, str] = {}
    copied = 0

    def plan_of() -> Plan:
        return planned(there, there.keys(), bundles, size=lambda part: part.passages, most=MOST_PASSAGES)

    for new in rounds:
        there |= {Part(OWNER, size * (len(there) + one), size): "tag" for one in range(new)}
        while (plan := plan_of()).groups:
            for name in plan.merged | plan.useless:
                del bundles[name]
            for group in plan.groups:
                assert sum(part.passages for part in group) <= MOST_PASSAGES
                copied += len(group)
                bundles[f"{copied:06}"] = group
    have = [part for parts in bundles.values() for part in parts]
    assert len(have) == len(set(have))
    assert len(there) - len(have) <= FEW_LOOSE
    assert len(bundles) <= 3 + 2 * len(there) * size / MOST_PASSAGES + np.log2(len(there) + 1)
    assert copied <= len(there) * (2 + np.log2(len(there) + 1))
