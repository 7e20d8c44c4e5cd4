"""The fake answers as the real one does: the same shapes, the same errors, call by call."""

from typing import Any

import httpx
import pytest
from cloister_common.wire.embeddings import LANE_HEADER
from cloister_common.wire.pictures import data_url

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import CLIP, RERANKER
from tests.support.illustrated import picture
from tests.support.models import MINILM

LONG = "word " * 1000
IMAGE = "data:image/png;base64,iVBORw0KGgo="


PICTURE = data_url(picture("red", side=40))


def part(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url}


def chat_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def embedding(**more: Any) -> dict[str, Any]:
    return {"model": MINILM, "input": "a text"} | more


def rerank(**more: Any) -> dict[str, Any]:
    return {"model": RERANKER, "query": "what is it", "documents": ["this is it", "that is not", "other"]} | more


REFUSED: dict[str, tuple[str, Any]] = {
    "no body": ("/v1/embeddings", None),
    "no model": ("/v1/embeddings", {"input": "x"}),
    "no input": ("/v1/embeddings", {"model": MINILM}),
    "unknown model": ("/v1/embeddings", embedding(model="nobody")),
    "reranker for vectors": ("/v1/embeddings", embedding(model=RERANKER)),
    "unknown field": ("/v1/embeddings", embedding(instruction="x")),
    "unknown kind of text": ("/v1/embeddings", embedding(input_type="classification")),
    "unknown format": ("/v1/embeddings", embedding(encoding_format="hex")),
    "other dimensions": ("/v1/embeddings", embedding(dimensions=256)),
    "dimensions as text": ("/v1/embeddings", embedding(dimensions="384")),
    "empty string": ("/v1/embeddings", embedding(input="")),
    "empty list": ("/v1/embeddings", embedding(input=[])),
    "empty string in a list": ("/v1/embeddings", embedding(input=["a", ""])),
    "null": ("/v1/embeddings", embedding(input=None)),
    "number": ("/v1/embeddings", embedding(input=3)),
    "float in a list": ("/v1/embeddings", embedding(input=[0.5])),
    "boolean in a list": ("/v1/embeddings", embedding(input=[True])),
    "token ids": ("/v1/embeddings", embedding(input=[101, 102])),
    "lists of token ids": ("/v1/embeddings", embedding(input=[[101], [102]])),
    "object": ("/v1/embeddings", embedding(input=[{"type": "text", "text": "x"}])),
    "image for a text model": ("/v1/embeddings", embedding(input=IMAGE)),
    "damaged image for the image model": ("/v1/embeddings", embedding(model=CLIP, input=["a cat", IMAGE])),
    "image elsewhere": ("/v1/embeddings", embedding(model=CLIP, input=[part("https://example.com/a.png")])),
    "image of another kind": ("/v1/embeddings", embedding(model=CLIP, input=part("data:image/bmp;base64,Qk0="))),
    "too many images": ("/v1/embeddings", embedding(model=CLIP, input=[PICTURE] * 65)),
    "too many": ("/v1/embeddings", embedding(input=["x"] * 2049)),
    "too long": ("/v1/embeddings", embedding(input=LONG)),
    "too long in a list": ("/v1/embeddings", embedding(input=["x", "y", LONG])),
    "user not text": ("/v1/embeddings", embedding(user=7)),
    "rerank without query": ("/v1/rerank", {"model": RERANKER, "documents": ["a"]}),
    "rerank with an empty query": ("/v1/rerank", rerank(query="")),
    "rerank without documents": ("/v1/rerank", rerank(documents=[])),
    "rerank with too many": ("/v1/rerank", rerank(documents=["a"] * 1001)),
    "rerank with an empty document": ("/v1/rerank", rerank(documents=["a", ""])),
    "rerank with an object": ("/v1/rerank", rerank(documents=[{"text": "a"}])),
    "rerank by a vector model": ("/v1/rerank", rerank(model=MINILM)),
    "rerank unknown model": ("/v1/rerank", rerank(model="nobody")),
    "rerank too long": ("/v1/rerank", rerank(documents=["a", LONG])),
    "rerank top_n of none": ("/v1/rerank", rerank(top_n=0)),
    "rerank unknown field": ("/v1/rerank", rerank(max_chunks_per_doc=3)),
    "unknown route": ("/v1/completions", {}),
}

SERVED: dict[str, tuple[str, Any]] = {
    "one text": ("/v1/embeddings", embedding()),
    "a list": ("/v1/embeddings", embedding(input=["a", "b b", "a"], user="someone")),
    "base64": ("/v1/embeddings", embedding(input=["a", "b"], encoding_format="base64")),
    "the model's dimensions": ("/v1/embeddings", embedding(dimensions=384)),
    "ranked": ("/v1/rerank", rerank()),
    "ranked, the best": ("/v1/rerank", rerank(top_n=1)),
    "ranked, more than there are": ("/v1/rerank", rerank(top_n=10)),
    "ranked, with documents": ("/v1/rerank", rerank(return_documents=True)),
}


def post(url: str, path: str, body: Any, **headers: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {EMBEDDER_TOKEN}"} | headers
    content = b"{" if body is None else None
    return httpx.post(f"{url}{path}", content=content, json=body, headers=headers, timeout=60)


def shape(value: Any) -> Any:
    """The value's structure: keys and types, and lengths of lists that are not vectors."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_equal_in_status_type_code_and_parameter(real_url: str, fake_url: str, case: str) -> None:
    path, body = REFUSED[case]
    answers = [post(url, path, body) for url in (real_url, fake_url)]
    assert 400 <= answers[0].status_code < 500
    facts = [
        (answer.status_code, {key: value for key, value in answer.json()["error"].items() if key != "message"})
        for answer in answers
    ]
    assert facts[0] == facts[1]
    messages = [answer.json()["error"]["message"] for answer in answers]
    if facts[0][1]["code"] != "context_length_exceeded":
        assert messages[0] == messages[1]


@pytest.mark.parametrize("given", [PICTURE, part(PICTURE), [part(PICTURE), "red", chat_part(PICTURE)]])
def test_images_are_embedded_by_both(real_url: str, fake_url: str, given: Any) -> None:
    for url in (real_url, fake_url):
        answer = post(url, "/v1/embeddings", embedding(model=CLIP, input=given))
        assert answer.status_code == 200, answer.text
        vectors = [row["embedding"] for row in answer.json()["data"]]
        assert len(vectors) == (len(given) if isinstance(given, list) else 1)
        assert vectors[0] == pytest.approx(vectors[-1], abs=1e-4)  # of the same picture, whichever way it came


@pytest.mark.parametrize("case", SERVED)
def test_answers_are_equal_in_shape(real_url: str, fake_url: str, case: str) -> None:
    path, body = SERVED[case]
    answers = [post(url, path, body) for url in (real_url, fake_url)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert shape(answers[0].json()) == shape(answers[1].json())
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MINILM}", f"/v1/models/{RERANKER}", "/v1/models/nobody"])
def test_model_listings_are_equal_in_shape(real_url: str, fake_url: str, path: str) -> None:
    headers = {"authorization": f"Bearer {EMBEDDER_TOKEN}"}
    real, fake = (httpx.get(f"{url}{path}", headers=headers) for url in (real_url, fake_url))
    assert real.status_code == fake.status_code
    assert shape(real.json()) == shape(fake.json())


def test_headers_are_judged_alike(real_url: str, fake_url: str) -> None:
    for headers in ({"authorization": "Bearer wrong"}, {LANE_HEADER: "fast"}):
        real, fake = (post(url, "/v1/embeddings", embedding(), **headers) for url in (real_url, fake_url))
        assert real.status_code == fake.status_code
        assert real.json() == fake.json()


def test_too_long_an_input_names_its_length_and_the_limit(url: str) -> None:
    error = post(url, "/v1/embeddings", embedding(input=["x", LONG])).json()["error"]
    assert error["param"] == "input[1]"
    assert "1002 tokens" in error["message"]
    assert "at most 256" in error["message"]
