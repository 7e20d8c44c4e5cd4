"""Sealed vector stores: packs that open where they belong and nowhere else, and searches of what is open of them."""

import base64
import contextlib
from collections.abc import Sequence

import numpy as np
import pytest
from cloister_common.vault import DataKey, VaultError
from cloister_common.wire.search import FoundPassage, SearchRequest
from cloister_retriever.editions import Place
from cloister_retriever.index.passages import Passage, PassageOwner, open_passage, passage_id, seal_passage
from cloister_retriever.index.protocol import Entry, Hit
from cloister_retriever.index.rotation import Rotations, normalised
from cloister_retriever.keys import PassageKeys, passage_keys
from cloister_retriever.sealed.block import Block
from cloister_retriever.sealed.pack import encoded, opened
from cloister_retriever.terms.weights import dot
from cloister_retriever.vector_stores.schemas import AttachFile, CreateStore
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.retriever_memory import SEALED_PASSAGES, TENANT, Killed, MemoryProcess, MemoryRoot, Stored
from tests.unit.retriever.test_crashes import settled

OWNER = PassageOwner("proj_a", "vs_1", "file-1", "vsf_1")
KEYS = passage_keys(DataKey(b"s" * 32, tenant="proj_a"), DataKey(b"f" * 32, tenant="proj_a"))
TEXT = "the zebra eats grass and water lilies"
Terms = dict[int, float]


def entries_of(
    terms: Sequence[Terms], first: int = 0, keys: PassageKeys = KEYS, owner: PassageOwner = OWNER
) -> list[Entry]:
    random = np.random.default_rng(len(terms))
    vectors = normalised(random.standard_normal((len(terms), 8)).astype(np.float32))
    rotated = Rotations().rotate(keys.rotation, vectors)
    passages = [Passage(position=first + row, text=f"word{row}", start=0, end=5) for row in range(len(terms))]
    return [
        Entry(seal_passage(keys, owner, passage, vector), dense.tolist(), of)
        for passage, vector, dense, of in zip(passages, vectors, rotated, terms, strict=True)
    ]


TERMS = st.dictionaries(st.integers(0, 30), st.floats(0.125, 2.25, width=16), max_size=8)


@given(terms=st.lists(TERMS, min_size=1, max_size=20), asked=TERMS, first=st.integers(0, 5000))
@settings(max_examples=50, deadline=None)
def test_a_pack_gives_back_what_was_put_in(terms: list[Terms], asked: Terms, first: int) -> None:
    entries = entries_of(terms, first)
    block = opened(KEYS, OWNER, first, encoded(KEYS, OWNER, entries))
    assert len(block) == len(terms)
    scores = block.by_words(asked)
    for row, entry in enumerate(entries):
        hit = block.hit(row)
        assert hit.terms == entry.terms
        assert hit.passage == entry.passage._replace(sealed_vector="")
        assert open_passage(KEYS, OWNER, hit.passage).text == f"word{row}"
        assert scores[row] == pytest.approx(dot(asked, entry.terms), rel=1e-3)


@given(packs=st.lists(st.lists(TERMS, min_size=1, max_size=4), min_size=2, max_size=5), asked=TERMS)
@settings(max_examples=50, deadline=None)
def test_blocks_that_are_joined_find_what_each_found_and_lose_what_is_taken_out(
    packs: list[list[Terms]], asked: Terms
) -> None:
    owners = [OWNER._replace(attachment_id=f"vsf_{number}") for number in range(len(packs))]
    blocks = [
        opened(KEYS, owner, 3, encoded(KEYS, owner, entries_of(terms, 3, owner=owner)))
        for owner, terms in zip(owners, packs, strict=True)
    ]
    joined = Block.joined(blocks)
    assert joined.by_words(asked).tolist() == [score for block in blocks for score in block.by_words(asked).tolist()]
    alone = [block.hit(row) for block in blocks for row in range(len(block))]
    for row, hit in enumerate(alone):
        assert hits_alike(joined.hit(row), hit)
    gone = owners[0].attachment_id
    for rows in (joined.of(None, {gone}), joined.of({owner.attachment_id for owner in owners[1:]}, ())):
        assert rows.tolist() == [hit.passage.attachment_id != gone for hit in alone]
    assert joined.rows(owners[1].attachment_id, [3, 99]) == [len(packs[0])]
    rest = joined.without({blocks[0].parts[0]})
    assert rest is not None
    assert all(hits_alike(rest.hit(row), hit) for row, hit in enumerate(alone[len(blocks[0]) :]))
    assert len(rest) == len(joined) - len(blocks[0])
    assert rest.held_bytes < joined.held_bytes
    assert joined.without({part for block in blocks for part in block.parts}) is None


def hits_alike(one: Hit, other: Hit) -> bool:
    assert one.exact is not None
    assert other.exact is not None
    return one._replace(exact=None) == other._replace(exact=None) and bool((one.exact == other.exact).all())


async def test_a_store_of_many_small_files_is_searched_as_a_few_blocks(process: MemoryProcess) -> None:
    texts = [f"room{number}" for number in range(20)]
    assert len(texts) <= SEALED_PASSAGES
    store, files = await filled(process, *texts)
    assert {one.file_id for one in await found(process, store, "room7")} >= {files[7]}
    opened_ = await process.stores.get(TENANT, store)
    blocks = await process.open_stores.blocks(TENANT, Place(store), opened_.key, fresh=False)
    assert len(blocks) == 1
    assert {part.owner.file_id for block in blocks for part in block.parts} == set(files)
    await process.files.delete(TENANT, files[7], process.stores.detach_file)
    blocks = await process.open_stores.blocks(TENANT, Place(store), opened_.key, fresh=False)
    assert {part.owner.file_id for block in blocks for part in block.parts} == {*files} - {files[7]}
    assert files[7] not in {one.file_id for one in await found(process, store, "room7")}
    assert (await found(process, store, "room8"))[0].file_id == files[8]


def pack() -> bytes:
    return encoded(KEYS, OWNER, entries_of([{1: 1.0}, {2: 0.5, 7: 1.5}], 4))


@pytest.mark.parametrize("field", ["tenant", "store_id", "file_id", "attachment_id"])
def test_a_pack_does_not_open_for_another_owner_at_another_place_or_under_other_keys(field: str) -> None:
    for keys, owner, first in (
        (KEYS, OWNER._replace(**{field: "other"}), 4),  # type: ignore[arg-type] # a field of text
        (KEYS, OWNER, 5),
        (passage_keys(DataKey(b"x" * 32, tenant="proj_a"), DataKey(b"f" * 32, tenant="proj_a")), OWNER, 4),
        (passage_keys(DataKey(b"s" * 32, tenant="proj_a"), DataKey(b"x" * 32, tenant="proj_a")), OWNER, 4),
    ):
        with pytest.raises(VaultError):
            opened(keys, owner, first, pack())


@pytest.mark.parametrize("cut", [0, 3, 40, -1])
def test_a_pack_that_was_cut_does_not_open(cut: int) -> None:
    with pytest.raises(VaultError):
        opened(KEYS, OWNER, 4, pack()[:cut])


def test_a_pack_shows_no_vector_and_no_term() -> None:
    entries = entries_of([{0x41424344: 1.0}] * 50)
    data = encoded(KEYS, OWNER, entries)
    assert b"DCBA" not in data
    assert np.array(entries[0].dense, "<f4").tobytes() not in data
    block: Block = opened(KEYS, OWNER, 0, data)
    assert block.vectors[0].astype("<f4").tobytes() not in data
    assert base64.b64decode(entries[0].passage.sealed_passage) in data  # the text, sealed by itself


@pytest.fixture
def process() -> MemoryProcess:
    return MemoryProcess(Stored(), MemoryRoot())


async def filled(process: MemoryProcess, *texts: str) -> tuple[str, list[str]]:
    """A sealed store with files: (store, files)."""
    files = [(await process.upload(text)).id for text in texts]
    store = await process.stores.create(TENANT, CreateStore(file_ids=files, protection="sealed"))
    await settled(process)
    return store.id, files


async def found(process: MemoryProcess, store: str, query: str, count: int = 50) -> list[FoundPassage]:
    return await process.search.search(TENANT, [store], SearchRequest(query=query, max_num_results=count))


async def paths(process: MemoryProcess) -> list[str]:
    return [listed.path for listed in await process.objects.list("t")]


async def packs(process: MemoryProcess) -> list[str]:
    return [path for path in await paths(process) if "/packs/" in path]


async def test_a_sealed_store_finds_what_a_standard_one_finds_and_leaves_the_index_empty(
    process: MemoryProcess,
) -> None:
    store, files = await filled(process, TEXT, "lions drink water")
    assert process.stored.rows == {}
    wire = (await process.stores.describe(TENANT, await process.stores.get(TENANT, store))).wire()
    assert (wire["protection"], wire["file_counts"]["completed"]) == ("sealed", 2)
    process = MemoryProcess(process.stored, process.root)
    standard = (await process.stores.create(TENANT, CreateStore(file_ids=files))).id
    await settled(process)
    for query in ("zebra", "water", "lions drink"):
        ours, theirs = await found(process, store, query), await found(process, standard, query)
        scores = {one.text: one.score for one in theirs}
        assert {one.text: one.score for one in ours} == pytest.approx(scores, abs=1e-3)
        assert ours[0].text in query


async def test_a_file_that_is_detached_or_deleted_takes_its_packs_along(process: MemoryProcess) -> None:
    store, files = await filled(process, TEXT, "lions drink water", "owls")
    other = MemoryProcess(process.stored, process.root)  # it has the store open too
    assert {one.file_id for one in await found(other, store, "water")} == set(files)
    opened = await process.stores.get(TENANT, store)
    await process.attachments.detach(TENANT, store, opened.key, files[0])
    await process.files.delete(TENANT, files[1], process.stores.detach_file)
    assert len(await packs(process)) == 1
    for each in (process, other):
        assert {one.file_id for one in await found(each, store, "water")} == {files[2]}
    await other.open_stores.sweep()
    blocks = await other.open_stores.blocks(TENANT, Place(store), opened.key, fresh=False)
    assert [part.owner.file_id for block in blocks for part in block.parts] == [files[2]]
    await process.stores.delete(TENANT, store)
    assert await packs(process) == []


async def test_a_pack_is_lost_with_the_key_of_its_file(process: MemoryProcess) -> None:
    store, files = await filled(process, TEXT)
    [path] = await packs(process)
    data = await process.objects.get(path)
    assert data is not None
    await process.files.delete(TENANT, files[0], process.stores.detach_file)
    await process.objects.put(path, data)  # as a backup would bring it back
    key = (await process.stores.get(TENANT, store)).key
    assert await process.open_stores.blocks(TENANT, Place(store), key, fresh=True) == []


async def test_a_pack_that_was_altered_is_left_out_and_takes_nothing_else_along(process: MemoryProcess) -> None:
    store, files = await filled(process, TEXT, "lions drink water")
    [path] = [path for path in await packs(process) if files[0] in path]
    data = await process.objects.get(path)
    assert data is not None
    await process.objects.put(path, data[:200] + bytes([data[200] ^ 1]) + data[201:])
    assert {one.file_id for one in await found(process, store, "water")} == {files[1]}


async def test_a_sealed_store_that_is_outgrown_goes_on_in_the_index_and_is_searched_whole(
    process: MemoryProcess,
) -> None:
    store, files = await filled(process, TEXT + " word" * (SEALED_PASSAGES - 8))
    process = MemoryProcess(process.stored, process.root)
    file = await process.upload("lions drink water")
    opened = await process.stores.open(TENANT, store)
    await process.attachments.attach(TENANT, store, opened.key, AttachFile(file_id=file.id))
    await settled(process)
    assert len(process.stored.rows) == 3
    assert len(await packs(process)) == 1
    wire = (await process.stores.describe(TENANT, opened)).wire()
    assert (wire["protection"], wire["file_counts"]["completed"]) == ("standard", 2)
    assert {one.file_id for one in await found(process, store, "water")} == {files[0], file.id}
    for query, of in (("lions", file.id), ("zebra", files[0])):
        assert [(one.text, one.file_id) for one in await found(process, store, query, 1)] == [(query, of)]
    # Whatever is attached from now on is not sealed, and goes from wherever it is.
    process = MemoryProcess(process.stored, process.root)
    small = await process.upload("owls")
    await process.attachments.attach(TENANT, store, opened.key, AttachFile(file_id=small.id))
    await settled(process)
    assert len(process.stored.rows) == 4
    await process.attachments.detach(TENANT, store, opened.key, file.id)
    assert len(process.stored.rows) == 1
    await process.stores.delete(TENANT, store)
    assert (process.stored.rows, await packs(process)) == ({}, [])
    assert not [path for path in await paths(process) if "/outgrown/" in path]


async def test_more_than_a_sealed_store_holds_is_refused_with_the_numbers(process: MemoryProcess) -> None:
    store, _ = await filled(process, "word " * (SEALED_PASSAGES - 2))
    process = MemoryProcess(process.stored, process.root, outgrown="refuse")
    file = await process.upload("three more words")
    opened = await process.stores.open(TENANT, store)
    await process.attachments.attach(TENANT, store, opened.key, AttachFile(file_id=file.id))
    await settled(process)
    refused = (await process.attachments.get(TENANT, store, opened.key, file.id)).wire()
    assert refused["status"] == "failed"
    for part in ("has 3 passages", f"this vector store {SEALED_PASSAGES - 2}", f"holds {SEALED_PASSAGES}", "standard"):
        assert part in refused["last_error"]["message"]
    process = MemoryProcess(process.stored, process.root, outgrown="refuse")
    file = await process.upload("two more")
    await process.attachments.attach(TENANT, store, opened.key, AttachFile(file_id=file.id))
    await settled(process)
    assert (await process.attachments.get(TENANT, store, opened.key, file.id)).status == "completed"


async def test_memory_is_bounded_and_what_left_it_is_read_again(process: MemoryProcess) -> None:
    first, _ = await filled(process, TEXT)
    process = MemoryProcess(process.stored, process.root)
    second, _ = await filled(process, "lions drink water")
    process.open_stores._most_bytes = 1
    for store in (first, second, first):
        assert await found(process, store, "water")
    assert len(process.open_stores._stores) == 0
    process.open_stores._most_bytes = 2**20
    for store in (first, second):
        assert await found(process, store, "water")
    assert len(process.open_stores._stores) == 2


async def test_an_ingestion_that_is_killed_at_any_write_is_whole_after_the_next() -> None:
    # Ten seconds: each of some twenty rounds waits until the lease of the process that died has run out.
    writes = 0
    while True:
        stored, root = Stored(), MemoryRoot()
        process = MemoryProcess(stored, root)
        file = await process.upload(TEXT)
        store = (await process.stores.create(TENANT, CreateStore(file_ids=[file.id], protection="sealed"))).id
        process.fuse.writes_left = writes
        with contextlib.suppress(Killed):
            await settled(process)
        was_killed = process.fuse.blown
        after = MemoryProcess(stored, root)
        await settled(after)
        assert len(await found(after, store, "zebra")) == len(TEXT.split())
        assert len(await packs(after)) == 1
        if not was_killed:
            return
        writes += 1


async def test_a_file_that_is_cut_anew_leaves_no_pack_of_before(process: MemoryProcess) -> None:
    store, files = await filled(process, TEXT)
    opened = await process.stores.get(TENANT, store)
    [attached] = await process.attachments.list(TENANT, store, opened.key)
    owner = PassageOwner(TENANT, store, files[0], attached.record.id)
    keys = await process.keys.get(TENANT, opened.key, files[0])
    assert keys is not None
    for count in (12, 3):
        index = process.indexes.of(TENANT, store, opened.key, "sealed", opened.edition)
        entries = entries_of([{1: 1.0}] * count, keys=keys)
        passages = [
            seal_passage(keys, owner, Passage(position=row, text="t", start=0, end=1), np.ones(8, np.float32))
            for row in range(count)
        ]
        await index.upsert([e._replace(passage=p) for e, p in zip(entries, passages, strict=True)])
        ids = [passage_id(keys, owner, row) for row in range(count + 1)]
        assert await index.count(store, ids[:count]) == count
        if await index.count(store, [ids[count]]):
            await index.delete(store, attached.record.id, from_position=count)
        assert await index.count(store, ids) == count
        assert len(await packs(process)) == 1
