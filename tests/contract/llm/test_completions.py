"""Completions of texts, asked of the real vLLM pod and of its fake: what the gateway reads of them."""

import json
from typing import Any

import httpx
from cloister_gateway.completions.shapes import completion
from cloister_gateway.model_settings import ModelSettings
from cloister_gateway.models import Catalog, ModelUpstream
from cloister_gateway.models.upstream import TEXT

from tests.contract.llm.conftest import CONTEXT_TOKENS, MODEL

CHAT_MODEL = Catalog.of({MODEL: ModelSettings(urls=["http://pod"], context_tokens=CONTEXT_TOKENS)}).get(MODEL)
ASKED: dict[str, Any] = {
    "model": MODEL,
    "prompt": ["Once upon a time", "The fox"],
    "n": 2,
    "max_tokens": 4,
    "temperature": 1,
    "seed": 1,
    "ignore_eos": True,
    "logprobs": 1,
}


async def test_a_whole_answer_has_a_choice_for_each_prompt_and_number(http: httpx.AsyncClient) -> None:
    answer = await http.post(TEXT, json={**ASKED, "echo": True})
    assert answer.status_code == 200, answer.text
    body = json.loads(completion(answer.content, CHAT_MODEL))
    assert (body["object"], body["model"]) == ("text_completion", MODEL)
    assert body["id"].startswith("cmpl-")
    assert [(choice["index"], choice["finish_reason"]) for choice in body["choices"]] == [
        (index, "length") for index in range(4)
    ]
    for choice in body["choices"]:
        assert choice["text"].startswith(ASKED["prompt"][choice["index"] // 2])
        assert choice["logprobs"].keys() == {"text_offset", "token_logprobs", "tokens", "top_logprobs"}
    assert body["usage"]["completion_tokens"] == 16


async def test_a_stream_has_the_same_choices_in_pieces(upstream: ModelUpstream) -> None:
    body = {**ASKED, "stream_options": {"include_usage": True}}
    blocks = [block async for block in upstream.stream_events(MODEL, body, tenant="t", path=TEXT)]
    events = b"".join(blocks).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(completion(event.removeprefix("data: ").encode(), CHAT_MODEL)) for event in events[:-2]]
    *pieces, last = chunks
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 16)
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [choice for chunk in pieces for choice in chunk["choices"]]
    for index in range(4):
        of_one = [choice for choice in choices if choice["index"] == index]
        assert "".join(choice["text"] for choice in of_one)
        assert [choice["finish_reason"] for choice in of_one][-1] == "length"
