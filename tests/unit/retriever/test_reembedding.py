"""A vector store gets another embedding model while it is searched, whatever dies in the middle."""

import contextlib
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from cloister_common.clients.embedder import EmbedderClient, Embeddings
from cloister_common.errors import Conflict, InvalidRequest, NotFound
from cloister_common.testing.embedder import fake_vector
from cloister_common.wire.search import SearchRequest
from cloister_retriever.editions import Edition
from cloister_retriever.index.entries import vectors_of
from cloister_retriever.reembedding.comparing import chosen, sentence_of
from cloister_retriever.reembedding.schemas import Reembed, Reembedding
from cloister_retriever.settings import Protection
from cloister_retriever.vector_stores.schemas import AttachFile, CreateStore

from tests.support.retriever_memory import MODEL, OTHER_MODEL, TENANT, Killed, MemoryProcess, MemoryRoot, Stored
from tests.unit.retriever.test_crashes import settled, short_pauses

__all__ = ["short_pauses"]

TEXT = "the zebra eats grass every morning"
PROTECTIONS: list[Protection] = ["standard", "sealed"]
BEFORE, AFTER = Edition(model=MODEL), Edition(number=1, model=OTHER_MODEL)


@pytest.fixture
def process() -> MemoryProcess:
    return MemoryProcess(Stored(), MemoryRoot())


def again(process: MemoryProcess, **options: str) -> MemoryProcess:
    """Another process over the same."""
    return MemoryProcess(process.stored, process.root, **options)  # type: ignore[arg-type] # a model's name


async def filled(process: MemoryProcess, protection: Protection, *texts: str) -> tuple[str, list[str]]:
    files = [(await process.upload(text)).id for text in texts or (TEXT,)]
    store = await process.stores.create(TENANT, CreateStore(file_ids=files, protection=protection))
    await settled(process)
    return store.id, files


async def found(process: MemoryProcess, store: str, query: str) -> list[str]:
    results = await process.search.search(TENANT, [store], SearchRequest(query=query, max_num_results=50))
    return [result.text for result in results]


async def reembedded(process: MemoryProcess, store: str, **fields: str) -> Reembedding:
    """Begins it, and lets a process end it."""
    await process.reembedding.begin(TENANT, store, Reembed.model_validate({"model": OTHER_MODEL} | fields))
    await settled(process)
    return await process.reembedding.look(TENANT, store)


async def places(process: MemoryProcess) -> set[str]:
    """Where anything lies of the passages and words of stores."""
    paths = [listed.path.split("/") for listed in await process.objects.list("t")]
    lying = {path[3] for path in paths if path[2] in {"words", "packs", "copying"}}
    return lying | {row["store_id"] for row in process.stored.rows.values()}


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_a_store_is_searched_with_another_model_after_it_was_embedded_anew(
    process: MemoryProcess, protection: Protection
) -> None:
    store, _ = await filled(process, protection, TEXT, "lions drink water")
    process = again(process)
    seen = await reembedded(process, store)
    assert (seen.status, seen.serving, seen.beside) == ("switched", AFTER, BEFORE)
    assert seen.file_counts is not None
    assert (seen.file_counts.total, seen.file_counts.completed) == (2, 2)
    assert seen.comparison is not None
    assert seen.comparison.samples == 9
    assert await places(process) == {store, f"{store}_1"}
    texts = [
        text
        for model, kind, texts in process.embedder.calls
        if (model, kind) == (OTHER_MODEL, "passage")
        for text in texts
    ]
    assert sorted(texts) == sorted(f"{TEXT} lions drink water".split())  # as they were embedded before
    process.embedder.calls.clear()
    assert (await found(process, store, "zebra"))[0] == "zebra"
    assert {model for model, _, _ in process.embedder.calls} == {OTHER_MODEL}
    late = await process.upload("owls")
    opened = await process.stores.open(TENANT, store)
    await process.attachments.attach(TENANT, store, opened.key, AttachFile(file_id=late.id))
    process = again(process)
    await settled(process)
    assert (await found(process, store, "owls"))[0] == "owls"


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_it_goes_back_with_what_was_attached_meanwhile_and_what_is_given_up_leaves_nothing(
    process: MemoryProcess, protection: Protection
) -> None:
    store, _ = await filled(process, protection)
    process = again(process)
    await reembedded(process, store)
    late = await process.upload("owls")
    opened = await process.stores.open(TENANT, store)
    await process.attachments.attach(TENANT, store, opened.key, AttachFile(file_id=late.id))
    process = again(process)
    await settled(process)
    seen = await process.reembedding.switch(TENANT, store, back=True)
    assert seen.serving == AFTER, "it lacks a file"
    assert (await found(process, store, "owls"))[0] == "owls"
    process = again(process)
    await settled(process)
    seen = await process.reembedding.look(TENANT, store)
    assert (seen.status, seen.serving) == ("ready", BEFORE)
    assert (await found(process, store, "owls"))[0] == "owls"
    seen = await process.reembedding.switch(TENANT, store, back=False)
    assert seen.serving == AFTER, "now it has all: at once"
    process = again(process)
    await settled(process)
    assert (await process.reembedding.give_up(TENANT, store)).status == "none"
    process = again(process)
    await settled(process)
    assert await places(process) == {f"{store}_1"}
    assert (await found(process, store, "zebra"))[0] == "zebra"
    with pytest.raises(Conflict):
        await process.reembedding.switch(TENANT, store, back=True)
    seen = await reembedded(again(process), store, model=MODEL)
    assert seen.serving.number > AFTER.number, "a place is never used again"


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_a_reembedding_killed_at_any_write_ends_whole(protection: Protection) -> None:
    async def begin(process: MemoryProcess, store: str, _: str) -> None:
        await reembedded(process, store)

    async def check(process: MemoryProcess, store: str) -> None:
        seen = await process.reembedding.look(TENANT, store)
        assert seen.status in {"none", "switched"}
        assert await places(process) == {store} | ({f"{store}_1"} if seen.beside else set())

    assert await _kill_at_every_write(begin, check, protection) > 12


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_giving_up_killed_at_any_write_leaves_nothing_or_all(protection: Protection) -> None:
    async def act(process: MemoryProcess, store: str, _: str) -> None:
        await process.reembedding.give_up(TENANT, store)
        await settled(process)

    async def check(process: MemoryProcess, store: str) -> None:
        seen = await process.reembedding.look(TENANT, store)
        assert await places(process) == {f"{store}_1"} | ({store} if seen.beside else set())

    assert await _kill_at_every_write(act, check, protection, first=reembedded) > 4


@pytest.mark.parametrize(("protection", "step"), [("standard", 1), ("sealed", 3)])
async def test_a_file_or_store_deleted_in_the_middle_leaves_nothing_in_either_edition(
    protection: Protection, step: int
) -> None:
    async def without_file(process: MemoryProcess, store: str, file: str) -> None:
        await process.stores.detach_file(TENANT, store, file)

    async def without_store(process: MemoryProcess, store: str, _: str) -> None:
        await process.stores.delete(TENANT, store)

    for delete in (without_file, without_store):
        writes = 0
        while True:
            process = MemoryProcess(Stored(), MemoryRoot())
            store, files = await filled(process, protection)
            process = again(process)
            process.fuse.writes_left = writes
            with contextlib.suppress(Killed):
                await reembedded(process, store)
            await process.supervisor.close()
            whole = not process.fuse.blown
            process = again(process)
            await delete(process, store, files[0])
            await settled(process)
            assert await places(process) == set(), (delete.__name__, writes)
            if whole:
                break
            writes += step
        assert writes > 8


@pytest.mark.parametrize("protection", PROTECTIONS)
async def test_what_is_written_into_a_later_edition_while_the_store_is_deleted_goes_too(
    process: MemoryProcess, protection: Protection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = await filled(process, protection)
    await reembedded(again(process), store)
    late = again(process)
    file = await late.upload("lions drink water")
    opened = await late.stores.get(TENANT, store)
    await late.attachments.attach(TENANT, store, opened.key, AttachFile(file_id=file.id))
    write = late.words.write

    async def written_too_late(*what: object) -> None:
        await again(process).stores.delete(TENANT, store)
        await write(*what)  # type: ignore[arg-type] # as it was called
        late.fuse.writes_left = 0  # and the process dies before it has looked

    monkeypatch.setattr(late.words, "write", written_too_late)
    with pytest.raises(Killed):
        await settled(late)
    await late.supervisor.close()
    await settled(again(process))
    assert await places(process) == set()


async def _kill_at_every_write(
    act: Callable[[MemoryProcess, str, str], Awaitable[None]],
    check: Callable[[MemoryProcess, str], Awaitable[None]],
    protection: Protection,
    *,
    first: Callable[[MemoryProcess, str], Awaitable[object]] | None = None,
) -> int:
    """Does ``act`` in a process that is killed at its first write, its second, …; how many writes it has.

    All the while, and in whatever state it ends, the store answers.
    """
    writes = 0
    while True:
        process = MemoryProcess(Stored(), MemoryRoot())
        store, files = await filled(process, protection)
        if first is not None:
            process = again(process)
            await first(process, store)
        process = again(process)
        process.fuse.writes_left = writes
        with contextlib.suppress(Killed):
            await act(process, store, files[0])
        await process.supervisor.close()
        whole = not process.fuse.blown
        process = again(process)
        assert (await found(process, store, "zebra"))[0] == "zebra"
        await settled(process)
        assert sorted(await found(process, store, TEXT)) == sorted(TEXT.split())
        await check(process, store)
        if whole:
            return writes
        writes += 1


async def test_a_store_whose_model_is_gone_can_be_embedded_anew(process: MemoryProcess) -> None:
    store, _ = await filled(process, "standard")
    process = again(process, model=OTHER_MODEL)
    process.embedder.served = {OTHER_MODEL}
    with pytest.raises(Conflict, match="reembed"):
        await found(process, store, "zebra")
    process.embedder.served = {MODEL, OTHER_MODEL}
    # While the embedder has both, a store is searched with its own.
    process = again(process, model=OTHER_MODEL)
    assert (await found(process, store, "zebra"))[0] == "zebra"
    process.embedder.served = {OTHER_MODEL}
    process = again(process, model=OTHER_MODEL)
    process.embedder.served = {OTHER_MODEL}
    await process.reembedding.begin(TENANT, store, Reembed())
    await settled(process)
    seen = await process.reembedding.look(TENANT, store)
    assert (seen.status, seen.serving, seen.comparison) == ("switched", AFTER, None)
    assert (await found(process, store, "zebra"))[0] == "zebra"


async def test_a_model_that_finds_less_is_not_searched_before_somebody_says_so(process: MemoryProcess) -> None:
    store, _ = await filled(process, "standard", "zebra grass every morning lions owls")
    process = again(process)
    process.embedder.poor = {OTHER_MODEL}
    seen = await reembedded(process, store)
    assert (seen.status, seen.serving) == ("ready", BEFORE)
    assert seen.comparison is not None
    assert seen.comparison.after < seen.comparison.before
    seen = await process.reembedding.switch(TENANT, store, back=False)
    assert (seen.status, seen.serving) == ("switched", AFTER)


async def test_it_waits_for_a_word_where_that_was_asked_for_and_can_be_given_up_before(process: MemoryProcess) -> None:
    store, _ = await filled(process, "standard")
    process = again(process)
    assert (await reembedded(process, store, switch="manual")).status == "ready"
    with pytest.raises(Conflict):
        await process.reembedding.begin(TENANT, store, Reembed())
    with pytest.raises(Conflict):
        await process.reembedding.switch(TENANT, store, back=True)
    process = again(process)
    await process.reembedding.give_up(TENANT, store)
    await settled(process)
    assert await places(process) == {store}
    with pytest.raises(Conflict):
        await process.reembedding.give_up(TENANT, store)


async def test_of_two_who_decide_at_the_same_moment_one_is_refused(process: MemoryProcess) -> None:
    store, _ = await filled(process, "standard")
    other = again(process)
    opened = await process.stores.get(TENANT, store)
    before = await other.stores.editions(TENANT, opened)
    await process.reembedding.begin(TENANT, store, Reembed(model=OTHER_MODEL))
    with pytest.raises(Conflict, match="same moment"):
        await other.stores.change_editions(TENANT, opened, before, before.begun(OTHER_MODEL, "auto"))
    assert (await other.reembedding.look(TENANT, store)).status == "in_progress"


async def test_only_a_model_that_embeds_texts_is_taken(process: MemoryProcess) -> None:
    store, _ = await filled(process, "standard")
    with pytest.raises(NotFound):
        await process.reembedding.begin(TENANT, store, Reembed(model="unknown"))
    assert (await process.reembedding.look(TENANT, store)).status == "none"


async def test_words_that_were_never_taken_come_with_the_same_model(process: MemoryProcess) -> None:
    store, files = await filled(process, "standard")
    opened = await process.stores.get(TENANT, store)
    attached = await process.attachments.get(TENANT, store, opened.key, files[0])
    await process.words.remove(TENANT, opened.place, attached.record.id)
    process = again(process)
    assert (await reembedded(process, store, model=MODEL)).status == "switched"
    opened = await process.stores.get(TENANT, store)
    assert await process.words.has(TENANT, opened.place, attached.record.id)
    assert sorted(await found(process, store, TEXT)) == sorted(TEXT.split())


class _Short(EmbedderClient):
    """Reads three words."""

    def __init__(self) -> None: ...

    async def embed(self, texts: object, **_: object) -> Embeddings:
        assert isinstance(texts, list)
        for number, text in enumerate(texts):
            if len(text.split()) > 3:
                raise InvalidRequest("too long", param=f"input[{number}]")
        return Embeddings([fake_vector(text, 8) for text in texts], 8, 0)


async def test_a_text_that_a_model_cannot_read_at_once_has_the_mean_of_its_parts() -> None:
    texts = ["owls", "zebras eat grass and lions", "drink"]
    vectors = await vectors_of(_Short(), texts, model="m", input_type="passage")
    parts = [np.frombuffer(fake_vector(part, 8), "<f4") for part in ("zebras eat", "grass and lions")]
    mean = np.mean(parts, axis=0)
    assert vectors.shape == (3, 8)
    assert vectors[1] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert vectors[2] == pytest.approx(np.frombuffer(fake_vector("drink", 8), "<f4"), abs=1e-6)
    with pytest.raises(InvalidRequest):
        await vectors_of(_Refusing(), ["owls"], model="m", input_type="passage")


class _Refusing(_Short):
    async def embed(self, texts: object, **_: object) -> Embeddings:
        raise InvalidRequest("too long", param="input[0]")


def test_samples_are_spread_over_all_passages_and_the_same_for_the_same_seed() -> None:
    counts = [("a", 500), ("b", 0), ("c", 500)]
    places = chosen(counts, "seed")
    assert places == chosen(counts, "seed") != chosen(counts, "another")
    assert {name for name, _ in places} == {"a", "c"}
    assert all(0 <= position < 500 for _, position in places)
    assert chosen([("a", 2)], "seed") == [("a", 0), ("a", 1)]
    assert chosen([], "seed") == []


def test_a_sample_is_asked_for_by_a_sentence_of_its_middle() -> None:
    text = "Short. The zebra eats grass every day. The lion drinks water at night. An owl sees well in the dark."
    assert sentence_of(text) == "The lion drinks water at night"
    assert sentence_of("two words") == "two words"
