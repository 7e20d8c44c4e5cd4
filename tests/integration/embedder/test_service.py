"""The service over MiniLM: many callers at once, long inputs, people before uploads."""

import asyncio
import time

import numpy as np
import pytest
from cloister_common.errors import InvalidRequest

from tests.support.embedder_service import RERANKER, ClientMaker


def words(count: int, mark: int) -> str:
    return " ".join(f"w{(mark * 31 + index * 7) % 997}" for index in range(count))


def vector(raw: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.frombuffer(raw, "<f4")


async def test_callers_at_the_same_time_get_what_each_would_get_alone(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    texts = [words(1 + caller % 40, caller) for caller in range(48)]
    alone = [(await client.embed([text])).vectors[0] for text in texts]
    together = await asyncio.gather(*(client.embed([text]) for text in texts))
    for one, result in zip(alone, together, strict=True):
        assert float(vector(one) @ vector(result.vectors[0])) > 0.999


async def test_order_survives_sorting_by_length_and_duplicates_are_equal(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    texts = [words(1 + (index * 37) % 60, index % 90) for index in range(180)]
    texts += texts[:20]
    result = await client.embed(texts)
    for index in (0, 17, 88, 130, 179):
        alone = await client.embed([texts[index]])
        assert float(vector(alone.vectors[0]) @ vector(result.vectors[index])) > 0.999
    assert result.vectors[180:] == result.vectors[:20]


async def test_the_longest_text_is_read_whole_and_one_token_more_is_refused(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    longest = "the " * 253 + "end"
    result = await client.embed([longest])
    assert result.tokens == 256
    other = await client.embed(["the " * 253 + "whale"])
    assert result.vectors != other.vectors, "the last word counts"
    with pytest.raises(InvalidRequest, match="257 tokens; the model reads at most 256"):
        await client.embed([longest + " more"])


async def test_query_does_not_wait_for_an_upload_of_two_thousand_texts(make_client: ClientMaker, url: str) -> None:
    client = make_client(url, deadline_seconds=300)
    started = time.monotonic()
    body = {"model": client.model, "input": [words(40, mark) for mark in range(2000)], "encoding_format": "base64"}
    upload = asyncio.create_task(client.create(body, bulk=True))
    waits: list[float] = []
    while not upload.done() and len(waits) < 20:
        asked = time.monotonic()
        await client.embed([f"a question about {asked}"])
        waits.append(time.monotonic() - asked)
    await upload
    whole = time.monotonic() - started
    assert len(waits) >= 5, "queries were answered while the upload ran"
    assert sorted(waits)[len(waits) // 2] < whole / 4


async def test_reranking_and_embedding_run_beside_each_other(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    documents = [words(1 + index % 10, index) for index in range(100)]
    ranked, embedded = await asyncio.gather(client.rerank(RERANKER, "which one", documents), client.embed(documents))
    assert sorted(hit.index for hit in ranked) == list(range(100))
    assert [hit.score for hit in ranked] == sorted((hit.score for hit in ranked), reverse=True)
    assert len(embedded.vectors) == 100
