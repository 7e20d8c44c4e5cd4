"""Embeddings and rerank through the gateway, computed by the fake embedder."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.serving import served

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture


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
        ({"input": [[1, 2]], "model": "m"}, "input[0]"),
        ({"model": "m"}, "input"),
    ],
)
def test_wrong_embedding_request_names_its_field(
    gateway: GatewayFixture, url: str, body: dict[str, Any], param: str
) -> None:
    response = httpx.post(f"{url}/v1/embeddings", headers=gateway.headers(), json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


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
