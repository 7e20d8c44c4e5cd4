"""Our client against the real embedder and the fake: the same results and the same errors."""

import asyncio
import io
import math
import struct

import orjson
import pytest
from cloister_common.errors import (
    InvalidRequest,
    NotFound,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
)
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.serving import free_port, served
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import CLIP, RERANKER, ClientMaker
from tests.support.models import MINILM
from tests.support.stopwatch import stopwatch
from tests.support.tiny_models import drawn


def floats(vector: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def dot(one: bytes, other: bytes) -> float:
    return sum(a * b for a, b in zip(floats(one), floats(other), strict=True))


async def test_vectors_are_normalised_in_order_and_of_the_models_length(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    texts = ["a red apple on a table", "the engine of a car", "a red apple on the table"]
    result = await client.embed(texts)
    assert result.dimensions == 384
    assert len(result.vectors) == 3
    assert all(math.isclose(dot(vector, vector), 1, abs_tol=1e-5) for vector in result.vectors)
    assert dot(result.vectors[0], result.vectors[2]) > 0.8 > 0.5 > dot(result.vectors[0], result.vectors[1])
    assert result.tokens > 15


async def test_long_lists_go_in_parts_and_errors_count_in_the_whole_list(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    texts = [f"text {index}" for index in range(600)]
    result = await client.embed(texts, bulk=True)
    assert len(result.vectors) == 600
    alone = await client.embed([texts[517]])
    assert dot(result.vectors[517], alone.vectors[0]) > 0.999
    with pytest.raises(InvalidRequest) as refused:
        await client.embed([*texts, ""])
    assert refused.value.param == "input[600]"
    assert "'input[600]'" in refused.value.message


async def test_no_texts_need_no_call(make_client: ClientMaker) -> None:
    client = make_client(f"http://127.0.0.1:{free_port()}")
    assert await client.embed([]) == ([], 0, 0)


async def test_reranked_documents_come_best_first(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    documents = ["this is about it", "nothing", "what is it about"]
    ranked = await client.rerank(RERANKER, "what is it", documents, top_n=2)
    assert len(ranked) == 2
    assert 1 >= ranked[0].score >= ranked[1].score >= 0
    assert len({hit.index for hit in ranked}) == 2


async def test_models_say_what_callers_plan_with(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    models = {model["id"]: model["cloister"] for model in await client.models()}
    assert models[MINILM] == {"kind": "text", "dimensions": 384, "max_tokens": 256}
    assert models[RERANKER]["dimensions"] is None


async def test_what_is_passed_on_comes_as_it_was_with_what_it_cost(make_client: ClientMaker, url: str) -> None:
    client = make_client(url)
    body = {"model": MINILM, "input": ["two texts", 'one "usage":{"prompt_tokens":9}']}
    vectors = await client.pass_embeddings(orjson.dumps(body), tenant="proj_a")
    answer = orjson.loads(vectors.content)
    assert vectors.prompt_tokens == answer["usage"]["prompt_tokens"] > 4
    assert len(answer["data"]) == 2
    question = {"model": RERANKER, "query": "is it", "documents": ['"usage":{"prompt_tokens":9}', "b"]}
    ranked = await client.pass_rerank(orjson.dumps(question | {"return_documents": True}), tenant="proj_a")
    assert ranked.prompt_tokens == orjson.loads(ranked.content)["usage"]["prompt_tokens"] > 4


async def test_readiness_is_asked_of_the_same_client(make_client: ClientMaker, url: str) -> None:
    await make_client(url).check()
    with pytest.raises(Unavailable):
        await make_client(f"http://127.0.0.1:{free_port()}").check()


async def test_who_can_do_without_the_models_asks_once(make_client: ClientMaker) -> None:
    fake = FakeEmbedder(EMBEDDER_TOKEN)
    fake.errors = [Unavailable("loading"), Unavailable("loading")]
    with served(fake) as url:
        with pytest.raises(Unavailable):
            await make_client(url).models(tenant="proj_a", within_seconds=1)
        assert len(fake.errors) == 1


async def test_the_callers_faults_keep_their_names(make_client: ClientMaker, url: str) -> None:
    client = make_client(url, model="nobody")
    with pytest.raises(NotFound) as unknown:
        await client.embed(["x"])
    assert (unknown.value.error_code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(InvalidRequest) as wrong:
        await client.create({"model": MINILM, "input": "x", "dimensions": 3})
    assert (wrong.value.error_code, wrong.value.param) == ("unsupported_parameter", "dimensions")


async def test_wrong_internal_token_is_the_stacks_own_fault(make_client: ClientMaker, url: str) -> None:
    client = make_client(url, token="wrong" * 8)
    with pytest.raises(UpstreamFailed) as failed:
        await client.embed(["x"])
    assert "401" in failed.value.message


async def test_a_busy_embedder_is_asked_again(make_client: ClientMaker) -> None:
    fake = FakeEmbedder(EMBEDDER_TOKEN)
    fake.errors = [Unavailable("loading"), TooManyRequests("full")]
    with served(fake) as url:
        client = make_client(url)
        assert len((await client.embed(["x"], bulk=True)).vectors) == 1
        assert fake.bulk_calls == 3


async def test_patience_has_an_end_and_the_last_error_is_the_reason(make_client: ClientMaker) -> None:
    fake = FakeEmbedder(EMBEDDER_TOKEN)
    fake.errors = [TooManyRequests("full", code="queue_full") for _ in range(10)]
    with served(fake) as url:
        client = make_client(url)
        with pytest.raises(TooManyRequests) as refused:
            await client.embed(["x"])
        assert refused.value.error_code == "queue_full"
        assert len(fake.errors) == 6


async def test_retry_after_beyond_the_deadline_is_not_waited_for(make_client: ClientMaker) -> None:
    fake = FakeEmbedder(EMBEDDER_TOKEN)
    fake.errors = [TooManyRequests("full", retry_after=30)]
    with served(fake) as url:
        client = make_client(url, deadline_seconds=25)
        with stopwatch() as waiting, pytest.raises(TooManyRequests) as refused:
            await client.embed(["x"])
        assert refused.value.retry_after == 30
        assert waiting.seconds < 20


async def test_embedder_that_is_down_and_back_again(make_client: ClientMaker) -> None:
    port = free_port()
    client = make_client(f"http://127.0.0.1:{port}")
    with pytest.raises(Unavailable) as down:
        await client.embed(["x"])
    assert down.value.error_code == "upstream_unreachable"
    for _ in range(2):
        # The second time the kept connection of the first is dead, which the client must not mind.
        with served(FakeEmbedder(EMBEDDER_TOKEN), port):
            assert len((await client.embed(["x"])).vectors) == 1


async def test_embedder_that_is_slow_ends_at_the_deadline(make_client: ClientMaker) -> None:
    fake = FakeEmbedder(EMBEDDER_TOKEN)
    fake.delay_seconds = 30
    with served(fake) as url:
        client = make_client(url, deadline_seconds=0.3)
        async with asyncio.timeout(fake.delay_seconds):
            with pytest.raises(Unavailable, match="did not answer within"):
                await client.embed(["x"])


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b"{}"), (200, b'{"data":[],"usage":{"prompt_tokens":1}}'), (500, b"boom"), (302, b"")],
)
async def test_answer_that_is_not_the_schema_is_upstreams_failure(
    make_client: ClientMaker, status: int, body: bytes
) -> None:
    async def answer(_: Request) -> Response:
        return Response(body, status_code=status)

    app = Starlette(routes=[Route("/v1/embeddings", answer, methods=["POST"])])
    with served(app) as url:
        with pytest.raises(UpstreamFailed):
            await make_client(url).embed(["x"])
        if b"usage" not in body:
            with pytest.raises(UpstreamFailed):
                await make_client(url).pass_embeddings(b"{}", tenant="proj_a")


async def test_images_and_texts_about_them_are_near(real_url: str, make_client: ClientMaker) -> None:
    """By a model that was trained for seconds on drawn shapes; anything real is another model's."""
    client = make_client(real_url)
    pairs = [("red", "square"), ("blue", "circle"), ("green", "square")]
    pictures = await client.embed_images(CLIP, [file_of(drawn(*pair)) for pair in pairs])
    texts = await client.embed_for_images(CLIP, [f"a photo of a {colour} {shape}" for colour, shape in pairs])
    nearest = [max(range(3), key=lambda place: dot(text, pictures.vectors[place])) for text in texts.vectors]
    assert nearest == [0, 1, 2]
    assert pictures.tokens == 3 * 5


async def test_an_image_that_cannot_be_read_is_named(url: str, make_client: ClientMaker) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await make_client(url).embed_images(CLIP, [file_of(drawn("red", "square")), b"\xff\xd8\xff"])
    assert (refused.value.param, refused.value.error_code) == ("input[1]", "invalid_image_format")


def file_of(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
