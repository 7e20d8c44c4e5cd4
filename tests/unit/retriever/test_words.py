"""Searching a store by words: what is found, what is kept of words, and what goes with a file."""

import pytest
from cloister_common.wire.search import SearchRequest
from cloister_retriever.terms.weights import TermKey
from cloister_retriever.vector_stores.schemas import AttachFile, CreateStore
from pydantic import ValidationError

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored
from tests.support.waiting import until
from tests.unit.retriever.test_ingestion import queue_is_empty, short_pauses

__all__ = ["short_pauses"]

WORDS = "zebra BX-40-1172 BX-40-1173 pumps"
BY_WORDS = {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}


@pytest.fixture
def process() -> MemoryProcess:
    return MemoryProcess(Stored(), MemoryRoot())


async def ingest(process: MemoryProcess) -> None:
    process.workers.start(process.supervisor)
    await until(lambda: queue_is_empty(process))


async def store_with(process: MemoryProcess, *texts: str) -> tuple[str, list[str]]:
    files = [(await process.upload(text)).id for text in texts]
    store = (await process.stores.create(TENANT, CreateStore(file_ids=files))).id
    await ingest(process)
    return store, files


async def texts(process: MemoryProcess, store: str, query: str, **options: object) -> list[str]:
    request = SearchRequest.model_validate({"query": query, **options})
    return [one.text for one in await process.search.search(TENANT, [store], request)]


@pytest.mark.parametrize("protection", ["standard", "sealed"])
async def test_a_passage_is_found_by_its_words_alone(process: MemoryProcess, protection: str) -> None:
    file = await process.upload(WORDS)
    body = CreateStore.model_validate({"file_ids": [file.id], "protection": protection})
    store = (await process.stores.create(TENANT, body)).id
    await ingest(process)
    assert (await texts(process, store, "is there a BX 40 1173", ranking_options=BY_WORDS))[0] == "BX-40-1173"
    assert (await texts(process, store, "pump", ranking_options=BY_WORDS))[0] == "pumps"
    assert (await texts(process, store, "zebra"))[0] == "zebra"


async def test_what_is_kept_of_words_tells_nothing_to_who_has_no_key(process: MemoryProcess) -> None:
    store, _ = await store_with(process, WORDS)
    [kept] = [one.path for one in await process.objects.list("t") if "/words/" in one.path]
    data = await process.objects.get(kept)
    assert data is not None
    key = TermKey((await process.stores.get(TENANT, store)).key.subkey("terms"))
    for term in ("szebra", "cbx401172"):
        assert key.id_of(term).to_bytes(4, "little") not in data
        assert term[1:].encode() not in data
    assert "terms" not in next(iter(process.stored.rows.values()))


async def test_words_go_with_their_file_and_their_store(process: MemoryProcess) -> None:
    store, [first, second] = await store_with(process, WORDS, "lions sleep")
    key = (await process.stores.get(TENANT, store)).key
    await process.attachments.detach(TENANT, store, key, first)
    assert len([one for one in await process.objects.list("t") if "/words/" in one.path]) == 1
    assert await texts(process, store, "BX-40-1172", ranking_options=BY_WORDS) == []
    assert await texts(process, store, "lion", ranking_options=BY_WORDS) == ["lions"]
    await process.files.delete(TENANT, second, process.stores.detach_file)
    await process.stores.delete(TENANT, store)
    assert [one for one in await process.objects.list("t") if "/words/" in one.path] == []


async def test_a_file_that_is_added_is_found_by_its_words_at_once(process: MemoryProcess) -> None:
    store, _ = await store_with(process, "lions sleep")
    assert await texts(process, store, "BX-40-1172", ranking_options=BY_WORDS) == []
    key = (await process.stores.get(TENANT, store)).key
    file = await process.upload(WORDS)
    await process.attachments.attach(TENANT, store, key, AttachFile(file_id=file.id))
    await until(lambda: queue_is_empty(process))
    assert (await texts(process, store, "BX-40-1172", ranking_options=BY_WORDS))[0] == "BX-40-1172"


@pytest.mark.parametrize("harm", ["damaged", "gone"])
async def test_without_its_words_a_file_is_found_by_its_meaning(process: MemoryProcess, harm: str) -> None:
    store, _ = await store_with(process, WORDS)
    [kept] = [one.path for one in await process.objects.list("t") if "/words/" in one.path]
    if harm == "damaged":
        await process.objects.put(kept, b"no record")
    else:
        await process.objects.delete(kept)
    assert (await texts(process, store, "zebra"))[0] == "zebra"
    assert await texts(process, store, "zebra", ranking_options=BY_WORDS) == []


async def test_a_store_with_too_many_words_is_searched_by_meaning_and_says_so(
    process: MemoryProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = await store_with(process, WORDS)
    process.words._most_bytes = 10
    assert (await texts(process, store, "zebra"))[0] == "zebra"
    assert await texts(process, store, "zebra", ranking_options=BY_WORDS) == []
    assert capsys.readouterr().out.count("search_by_meaning_alone") == 1


async def test_a_file_that_was_uploaded_many_times_does_not_fill_the_list(process: MemoryProcess) -> None:
    many = " ".join(f"word{number}" for number in range(20))
    store, _ = await store_with(process, *[many] * 8)
    found = await texts(process, store, "word3", max_num_results=20)
    assert sorted(found) == sorted(many.split())


async def test_a_threshold_and_weights_are_kept(process: MemoryProcess) -> None:
    store, _ = await store_with(process, WORDS)
    options = {"ranker": "auto", "score_threshold": 0.9, **BY_WORDS}
    assert await texts(process, store, "BX-40-1172", ranking_options=options) == ["BX-40-1172"]


@pytest.mark.parametrize("weights", [(1, -1), (1, "nan"), (1, None), (0, 0)])
def test_weights_are_numbers_from_zero_and_one_is_above(weights: tuple[object, object]) -> None:
    hybrid = dict(zip(("embedding_weight", "text_weight"), weights, strict=True))
    with pytest.raises(ValidationError, match="text_weight"):
        SearchRequest.model_validate({"query": "q", "ranking_options": {"hybrid_search": hybrid}})
