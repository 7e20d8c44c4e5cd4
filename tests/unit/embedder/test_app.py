"""The service around the queue, with a fake model: doors, readiness, lanes, callers who leave."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cloister_common.settings import SettingsError
from cloister_common.testing.serving import served
from cloister_common.wire.embeddings import BULK, LANE_HEADER
from cloister_embedder.app import create_app

from tests.support.embedder import EMBEDDER_TOKEN, FakeEncoder, FakeLoader, embedder_settings

MODELS = {"m": {"kind": "text", "path": "/nowhere"}, "n": {"kind": "text", "path": "/nowhere"}}
HEADERS = {"authorization": f"Bearer {EMBEDDER_TOKEN}"}


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def loader(encoder: FakeEncoder) -> FakeLoader:
    return FakeLoader({"m": encoder, "n": FakeEncoder()})


@pytest.fixture
def url(tmp_path: Path, loader: FakeLoader, encoder: FakeEncoder) -> Iterator[str]:
    with served(create_app(embedder_settings(tmp_path, MODELS), load=loader)) as url:
        yield url
        encoder.gate.set()
        loader.release.set()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=10) as http:
        yield http


async def ready(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)


async def embed(http: httpx.AsyncClient, text: Any, model: str = "m", **headers: str) -> httpx.Response:
    return await http.post("/v1/embeddings", json={"model": model, "input": text}, headers=headers)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/v1/embeddings", "/v1/rerank"])
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", f"Basic {EMBEDDER_TOKEN}"])
async def test_every_route_needs_the_internal_token(url: str, path: str, authorization: str | None) -> None:
    method = "GET" if "models" in path else "POST"
    headers = {"authorization": authorization} if authorization else {}
    async with httpx.AsyncClient(base_url=url) as http:
        response = await http.request(method, path, headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"


async def test_readiness_names_the_model_that_still_loads_and_callers_are_told_to_wait(
    tmp_path: Path, loader: FakeLoader
) -> None:
    loader.release.clear()
    with served(create_app(embedder_settings(tmp_path, MODELS), load=loader)) as url:
        async with client(url) as http:
            body = (await http.get("/readyz")).json()
            assert body["parts"]["model m"] == "The model 'm' is still loading."
            refused = await embed(http, "x")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["error"]["code"] == "model_loading"
            assert (await http.get("/livez")).status_code == 200
            loader.release.set()
            await ready(http)
            assert (await embed(http, "x")).status_code == 200


async def test_model_that_cannot_be_loaded_is_named_and_the_others_serve(tmp_path: Path, loader: FakeLoader) -> None:
    loader.failures["m"] = SettingsError("its folder is odd")
    with served(create_app(embedder_settings(tmp_path, MODELS), load=loader)) as url:
        async with client(url) as http:
            async with asyncio.timeout(10):
                while (await embed(http, "x", "n")).status_code != 200:
                    await asyncio.sleep(0.01)
            parts = (await http.get("/readyz")).json()["parts"]
            assert parts == {"model m": "The model 'm' could not be loaded: its folder is odd", "model n": "ready"}
            assert (await embed(http, "x", "m")).status_code == 503


async def test_client_that_disconnects_takes_its_texts_out_of_the_queue(url: str, encoder: FakeEncoder) -> None:
    encoder.gate.clear()
    async with client(url) as http:
        await ready(http)
        encoder.batches.clear()
        first = asyncio.create_task(embed(http, "first"))
        assert await asyncio.to_thread(encoder.entered.acquire, timeout=10)
        leaver = asyncio.create_task(embed(http, [f"l{i} m" for i in range(300)]))
        await _queued(300)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        await _queued(0)
        encoder.gate.set()
        assert (await first).status_code == 200
    assert encoder.batches == [[1]]


async def _queued(texts: int) -> None:
    """Waits until the bulk lane's gauge shows this many texts."""
    from prometheus_client import REGISTRY

    labels = {"model": "m", "lane": "bulk"}
    async with asyncio.timeout(10):
        while REGISTRY.get_sample_value("cloister_embedder_queued_texts", labels) != texts:
            await asyncio.sleep(0.005)


async def test_full_queue_is_a_429_with_retry_after(url: str, encoder: FakeEncoder) -> None:
    encoder.gate.clear()
    async with client(url) as http:
        await ready(http)
        first = asyncio.create_task(embed(http, "first"))
        assert await asyncio.to_thread(encoder.entered.acquire, timeout=10)
        uploads = [
            asyncio.create_task(embed(http, [f"u{call} {i}" for i in range(2048)], **{LANE_HEADER: BULK}))
            for call in range(8)
        ]
        await _queued(8 * 2048)
        refused = await embed(http, "one more", **{LANE_HEADER: BULK})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        for upload in uploads:
            upload.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
        await _queued(0)
        encoder.gate.set()
        assert (await first).status_code == 200


async def test_unknown_lane_is_refused_by_name(url: str) -> None:
    async with client(url) as http:
        await ready(http)
        refused = await embed(http, "x", **{LANE_HEADER: "fast"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == LANE_HEADER


async def test_large_answer_in_floats_leaves_the_loop_free(tmp_path: Path) -> None:
    encoder = FakeEncoder(dimensions=384)
    loader = FakeLoader({"m": encoder})
    with served(create_app(embedder_settings(tmp_path, {"m": MODELS["m"]}), load=loader)) as url:
        async with client(url) as http:
            await ready(http)
            response = await embed(http, [f"t{i}" for i in range(2048)])
    data = response.json()["data"]
    assert [row["index"] for row in data] == list(range(2048))
    assert {len(row["embedding"]) for row in data} == {384}


def test_wrong_settings_stop_the_start_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        create_app(embedder_settings(tmp_path, MODELS))
    settings = embedder_settings(tmp_path, MODELS)
    settings.token_file.write_text("changeme")
    with pytest.raises(SettingsError, match="placeholder"):
        create_app(settings, load=FakeLoader({}))


async def test_threads_end_with_the_application(tmp_path: Path, loader: FakeLoader) -> None:
    def ours() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith(("encode-", "tokenize"))]

    before = ours()
    with served(create_app(embedder_settings(tmp_path, MODELS), load=loader)) as url:
        async with client(url) as http:
            await ready(http)
            await embed(http, "x")
    assert ours() == before


def test_a_lane_that_some_request_never_fits_into_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="429 for ever"):
        embedder_settings(tmp_path, MODELS, queue={"interactive_texts": 8, "max_interactive_texts": 7})


async def test_vectors_of_a_matryoshka_model_are_cut_and_of_length_1_again(tmp_path: Path) -> None:
    loader = FakeLoader({"m": FakeEncoder(shorter=[2]), "n": FakeEncoder(shorter=range(1, 4))})
    with served(create_app(embedder_settings(tmp_path, MODELS), load=loader)) as url:
        async with client(url) as http:
            await ready(http)
            body = {"model": "m", "input": ["a b c", "a"]}
            whole = (await http.post("/v1/embeddings", json=body)).json()
            cut = (await http.post("/v1/embeddings", json={**body, "dimensions": 2})).json()
            assert cut["usage"] == whole["usage"]
            for one, other in zip(whole["data"], cut["data"], strict=True):
                first = np.asarray(one["embedding"][:2])
                assert np.allclose(other["embedding"], first / np.linalg.norm(first))
            refused = (await http.post("/v1/embeddings", json={**body, "dimensions": 3})).json()["error"]
            assert (refused["param"], "one of 2, 4" in refused["message"]) == ("dimensions", True)
            for dimensions, status in ((3, 200), (1, 200), (0, 400), (5, 400)):
                answer = await http.post("/v1/embeddings", json={**body, "model": "n", "dimensions": dimensions})
                assert answer.status_code == status
