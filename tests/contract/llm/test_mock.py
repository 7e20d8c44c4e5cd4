"""The pod without a model, on which the benchmark rests, writes what vLLM writes: key by key, in the same order."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.bench.gateway import mock
from tests.contract.llm.conftest import MODEL, Pod

CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me about foxes."}],
    "max_tokens": 3,
    "temperature": 0,
    "ignore_eos": True,
}
USAGES: list[dict[str, Any]] = [
    {},
    {"stream_options": {"include_usage": True}},
    {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
]


@pytest.fixture
async def mocked() -> AsyncIterator[str]:
    server = await mock.serve(0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


def form(value: Any) -> Any:
    """What is left of a JSON value without its content: its keys in their order, and what kinds of things they have."""
    if isinstance(value, dict):
        return [(key, form(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [form(inner) for inner in value]
    return type(value).__name__


async def answer(url: str, token: str, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=300) as client:
        return await client.post("/v1/chat/completions", json=body)


def chunk_forms(answer: httpx.Response) -> list[Any]:
    """The forms of a stream's chunks, the same one only once in a row: vLLM may join tokens, or split a character."""
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    forms = [form(json.loads(event.removeprefix("data: "))) for event in events]
    return [one for place, one in enumerate(forms) if not place or forms[place - 1] != one]


@pytest.mark.parametrize("usage", USAGES, ids=["no usage", "usage", "continuous usage"])
async def test_its_chunks_have_the_form_of_vllms(usage: dict[str, Any], mocked: str, real: Pod) -> None:
    body = {**CHAT, "stream": True, **usage}
    expected = await answer(real.url, real.token, body)
    found = await answer(mocked, "none", body)
    assert found.headers["content-type"] == expected.headers["content-type"]
    assert chunk_forms(found) == chunk_forms(expected)


async def test_its_whole_answer_has_the_form_of_vllms(mocked: str, real: Pod) -> None:
    found, expected = [await answer(url, token, CHAT) for url, token in ((mocked, "none"), (real.url, real.token))]
    assert form(found.json()) == form(expected.json())
