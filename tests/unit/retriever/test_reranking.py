"""A cross-encoder puts the best passages in order where one is named, and a search never fails for it."""

import asyncio

import pytest
from cloister_common.errors import InvalidRequest, Unavailable
from cloister_common.wire.search import RANKERS, FoundPassage, SearchRequest
from cloister_retriever.settings import SearchSettings
from cloister_retriever.vector_stores.schemas import CreateStore
from prometheus_client import REGISTRY

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored
from tests.unit.retriever.test_crashes import settled, short_pauses

__all__ = ["short_pauses"]

WORDS = "zebras zebra zebracrossing ze zebrafinch"


async def store_of(process: MemoryProcess, text: str = WORDS) -> str:
    file = await process.upload(text)
    store = await process.stores.create(TENANT, CreateStore(file_ids=[file.id]))
    await settled(process)
    return store.id


def made(**settings: object) -> MemoryProcess:
    return MemoryProcess(Stored(), MemoryRoot(), search=SearchSettings.model_validate(settings))


async def found(process: MemoryProcess, store: str, **options: object) -> list[FoundPassage]:
    request = SearchRequest.model_validate({"query": ["about", "zebra"], "max_num_results": 3} | options)
    return await process.search.search(TENANT, [store], request)


def counted(result: str) -> float:
    return REGISTRY.get_sample_value("cloister_search_reranked_total", {"result": result}) or 0.0


async def test_the_order_is_the_cross_encoders_and_the_scores_stay() -> None:
    process = made(rerank_model="ranker")
    store = await store_of(process)
    by_score = {
        one.text: one.score
        for one in await found(process, store, ranking_options={"ranker": "none"}, max_num_results=9)
    }
    assert process.embedder.reranked == []
    results = await found(process, store)
    assert [one.text for one in results] == ["ze", "zebra", "zebras"]
    assert {one.text: one.score for one in results}.items() <= by_score.items()
    [(model, query, texts)] = process.embedder.reranked
    assert (model, query, sorted(texts)) == ("ranker", "zebra", sorted(WORDS.split()))


@pytest.mark.parametrize("ranker", [name for name in RANKERS if name != "none"])
async def test_a_ranker_of_openais_name_is_the_one_that_is_here(ranker: str) -> None:
    process = made(rerank_model="ranker")
    store = await store_of(process)
    assert [one.text for one in await found(process, store, ranking_options={"ranker": ranker})] == [
        "ze",
        "zebra",
        "zebras",
    ]


async def test_without_one_nothing_is_asked() -> None:
    process = made()
    store = await store_of(process)
    assert (await found(process, store))[0].text == "zebra"
    assert process.embedder.reranked == []


async def test_it_reads_so_many_passages_and_no_more() -> None:
    process = made(rerank_model="ranker", rerank_candidates=4)
    store = await store_of(process, " ".join(f"word{number}" for number in range(40)))
    assert len(await found(process, store, max_num_results=2)) == 2
    assert len(await found(process, store, max_num_results=6)) == 6
    assert [len(texts) for _, _, texts in process.embedder.reranked] == [4, 6]


@pytest.mark.parametrize("error", [Unavailable("away"), InvalidRequest("too long"), TimeoutError()])
async def test_where_it_fails_the_order_by_scores_stands_and_is_counted(error: Exception) -> None:
    process = made(rerank_model="ranker")
    store = await store_of(process)
    process.embedder.rerank_fails = error
    before = counted("failed")
    results = await found(process, store)
    assert results[0].text == "zebra"
    assert [one.score for one in results] == sorted((one.score for one in results), reverse=True)
    assert counted("failed") == before + 1


async def test_one_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    process = made(rerank_model="ranker", rerank_seconds=0.01)
    store = await store_of(process)

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(process.embedder, "rerank", never)
    assert (await found(process, store))[0].text == "zebra"
