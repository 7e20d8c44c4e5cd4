"""Embeddings and rerank through the gateway, computed by the fake embedder."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.serving import served

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture

MINILM = "all-MiniLM-L6-v2"


@pytest.fixture
def gateway(make_gateway: Callable[..., GatewayFixture], tmp_path: Any) -> Iterator[GatewayFixture]:
    with served(FakeEmbedder(token=INTERNAL_TOKEN)) as url:
        yield make_gateway(embedder={"url": url, "token_file": str(tmp_path / "secrets" / "token")})


@pytest.fixture
def url(gateway: GatewayFixture) -> Iterator[str]:
    with gateway.serve() as served_url:
        yield served_url


@pytest.fixture
def client(gateway: GatewayFixture, url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=gateway.project_key, max_retries=0) as made:
        yield made


def test_sdk_embeds_in_both_encodings(client: openai.OpenAI) -> None:
    model = next(found.id for found in client.models.list() if found.id != "fake")
    both = client.embeddings.create(model=model, input=["one", "two"])
    floats = client.embeddings.create(model=model, input="one", encoding_format="float")
    assert len(both.data) == 2
    assert both.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-6)
    assert both.usage.prompt_tokens > 0
    assert client.models.retrieve(model).owned_by == "cloister"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "a", "model": "m", "flavor": 1}, "flavor"),
        ({"model": "m"}, "input"),
        ({"input": [], "model": "m"}, "input"),
        ({"input": ["a", ""], "model": "m"}, "input[1]"),
        ({"input": [[15339], []], "model": "m"}, "input[1]"),
        ({"input": [[15339], "a"], "model": "m"}, "input[1]"),
        ({"input": ["a", 15339], "model": "m"}, "input[1]"),
        ({"input": [15339, True], "model": "m"}, "input[1]"),
        ({"input": [[15339], [1, 100256]], "model": "m"}, "input[1][1]"),
        ({"input": [-1], "model": "m"}, "input[0]"),
        ({"input": [[1]] * 2049, "model": "m"}, "input"),
        ({"input": [15339], "model": "m", "dimensions": 7}, "dimensions"),
    ],
)
def test_wrong_embedding_request_names_its_field(
    gateway: GatewayFixture, url: str, body: dict[str, Any], param: str
) -> None:
    body = {**body, "model": "all-MiniLM-L6-v2"} if "model" in body else body
    response = httpx.post(f"{url}/v1/embeddings", headers=gateway.headers(), json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_token_ids_are_the_text_they_stand_for(client: openai.OpenAI) -> None:
    # The last is a control token of OpenAI's, which is a word like others here.
    tokens = [[15339, 1917], [15339], [57668, 53901], [100257]]
    texts = ["hello world", "hello", "你好", "<|endoftext|>"]
    of_tokens, of_texts = (client.embeddings.create(model=MINILM, input=given) for given in (tokens, texts))
    assert [one.embedding for one in of_tokens.data] == [one.embedding for one in of_texts.data]
    assert of_tokens.usage == of_texts.usage
    one = client.embeddings.create(model=MINILM, input=tokens[0])
    assert [found.embedding for found in one.data] == [of_texts.data[0].embedding]


def test_tokens_of_a_thousand_texts_go_in_one_request(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MINILM, input=[[15339, 1917] * 100] * 1000)
    assert (len(answer.data), answer.usage.prompt_tokens) == (1000, 103_000)


@pytest.mark.parametrize("tokens", [[[1] * 8193], [1] * 8193, [[1] * 200] * 1501, [[1] * 200] * 1700])
def test_more_tokens_than_openai_takes_are_a_413(gateway: GatewayFixture, url: str, tokens: list[Any]) -> None:
    body = {"model": MINILM, "input": tokens}
    assert httpx.post(f"{url}/v1/embeddings", headers=gateway.headers(), json=body).status_code == 413


def test_dimensions_of_a_matryoshka_model_and_nulls_reach_the_embedder(
    make_gateway: Callable[..., GatewayFixture], tmp_path: Any
) -> None:
    with served(FakeEmbedder(token=INTERNAL_TOKEN, shorter=[64, 128])) as embedder_url:
        gateway = make_gateway(embedder={"url": embedder_url, "token_file": str(tmp_path / "secrets" / "token")})
        with gateway.serve() as url, openai.OpenAI(base_url=f"{url}/v1", api_key=gateway.project_key) as client:
            cut = client.embeddings.create(model=MINILM, input=[15339], dimensions=64, user="somebody")
            assert len(cut.data[0].embedding) == 64
            with pytest.raises(openai.BadRequestError, match="one of 64, 128, 384"):
                client.embeddings.create(model=MINILM, input="a", dimensions=65)
            nulls = {"model": MINILM, "input": "a", "dimensions": None, "encoding_format": None, "user": None}
            answer = httpx.post(f"{url}/v1/embeddings", headers=gateway.headers(), json=nulls).json()
            assert len(answer["data"][0]["embedding"]) == 384


def test_unknown_model_is_the_embedders_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="unknown", input="a")


def test_embedder_that_is_down_is_a_503(fresh_gateway: GatewayFixture, fresh_url: str) -> None:
    body = {"model": "m", "input": "a"}
    response = httpx.post(f"{fresh_url}/v1/embeddings", headers=fresh_gateway.headers(), json=body, timeout=60)
    assert response.status_code == 503
    assert [
        model["id"] for model in httpx.get(f"{fresh_url}/v1/models", headers=fresh_gateway.headers()).json()["data"]
    ]
