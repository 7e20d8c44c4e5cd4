"""What vLLM sends together becomes one event, and what it says it used is kept to the last chunk."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
from cloister_common.errors import UpstreamFailed
from cloister_common.vault import DataKey
from cloister_gateway.runs import generation
from cloister_gateway.runs.answer import Answer
from cloister_gateway.runs.calls import Calls
from cloister_gateway.runs.generation import Generation
from cloister_gateway.runs.records import TokenCount, TurnRequest
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.storage import RESPONSE, KeyedObject


def chunk(text: str | None, *, finish: str | None = None, tokens: int | None = None, **delta: Any) -> bytes:
    if text is not None:
        delta["content"] = text
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    if tokens is not None:
        body["usage"] = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    return b"data: " + orjson.dumps(body) + b"\n\n"


class Pod:
    """One answer, in the blocks that it came in."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = blocks

    async def stream_events(self, *_: Any, **__: Any) -> AsyncGenerator[bytes, None]:
        for block in self.blocks:
            yield block


async def answer_of(*blocks: bytes) -> tuple[str, list[str], TokenCount]:
    """The reason of the end, the texts of the events, and what was used."""
    reason, events, tokens = await events_of(*blocks)
    return reason, [event["delta"] for event in events if "delta" in event], tokens


async def events_of(*blocks: bytes, **asked: Any) -> tuple[str, list[dict[str, Any]], TokenCount]:
    """The reason of the end, the events, and what was used."""
    transcript = Transcript({"id": "resp_1", "status": "in_progress", "output": [], "usage": None})
    keyed = KeyedObject(RESPONSE, "resp_1", DataKey(bytes(32), tenant="proj_a"))
    answer = Answer(transcript, [], cite=True)
    work = Generation(
        Pod(*blocks),  # type: ignore[arg-type]  # all that a generation asks of it
        keyed,
        TurnRequest(model="fake", input=[], **asked),
        [],
        most_tokens=64,
        answer=answer,
        calls=Calls([], parallel=True),
        tokens=transcript.tokens,
    )
    reason = await work.run()
    answer.finish()
    transcript.close_output(completed=True, failed=False)
    return reason, [orjson.loads(event) for event in transcript.take_pending()[1]], transcript.tokens


async def test_each_read_is_one_event_with_all_the_text_of_its_chunks() -> None:
    reason, texts, tokens = await answer_of(
        chunk("", role="assistant", tokens=0),
        chunk("one", tokens=1),
        chunk(" two", tokens=2) + chunk(" three", tokens=3) + chunk("", tokens=4) + chunk(' "four"\n', tokens=5),
        chunk(None, finish="stop", tokens=6) + b"data: [DONE]\n\n",
    )
    assert (reason, texts) == ("stop", ["one", ' two three "four"\n'])
    assert (tokens.prompt, tokens.output) == (9, 6)


async def test_what_was_in_the_cache_is_told_with_the_last_event_alone() -> None:
    used = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    whole = orjson.dumps({"choices": [], "usage": {**used, "prompt_tokens_details": {"cached_tokens": 4}}})
    _, _, tokens = await answer_of(
        chunk("one", tokens=1),
        chunk(None, finish="stop", tokens=2),
        b"data: " + whole + b"\n\ndata: [DONE]\n\n",
    )
    assert (tokens.prompt, tokens.cached, tokens.output) == (9, 4, 2)


async def test_text_before_an_error_of_the_model_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_MOST_ATTEMPTS", 1)
    with pytest.raises(UpstreamFailed):
        await answer_of(chunk("one") + b'data: {"object": "error", "error": {"message": "m"}}\n\n')


def logprob(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}


def chunk_with_logprobs(text: str, *tokens: str, **delta: Any) -> bytes:
    body = orjson.loads(chunk(text, **delta).removeprefix(b"data: "))
    body["choices"][0]["logprobs"] = {"content": [logprob(token) for token in tokens]}
    return b"data: " + orjson.dumps(body) + b"\n\n"


def told(events: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The texts, and of which tokens each event tells how likely they were."""
    return [
        (event["delta"], [one["token"] for one in event["logprobs"]])
        for event in events
        if event["type"] == "response.output_text.delta"
    ]


async def test_logprobs_go_out_with_the_text_of_their_tokens_and_stay_with_the_message() -> None:
    blocks = [
        chunk("", role="assistant"),
        chunk_with_logprobs("", "hm", reasoning="hm"),
        chunk_with_logprobs("one", "one"),
        # The first half of a character is no text yet.
        chunk_with_logprobs("", "\ufffd"),
        chunk_with_logprobs("é", "é") + chunk_with_logprobs(" two", " two"),
        chunk_with_logprobs("", "<end>"),
        chunk(None, finish="stop") + b"data: [DONE]\n\n",
    ]
    _, events, _ = await events_of(*blocks, logprobs=0)
    assert told(events) == [("one", ["one"]), ("é two", ["\ufffd", "é", " two"])]
    kept = [logprob(token) for token in ("one", "\ufffd", "é", " two")]
    by_type = {event["type"]: event for event in events}
    told_all = [{name: one[name] for name in ("token", "logprob", "top_logprobs")} for one in kept]
    assert by_type["response.output_text.done"]["logprobs"] == told_all
    assert by_type["response.content_part.done"]["part"]["logprobs"] == kept
    assert by_type["response.output_item.done"]["item"]["content"][0]["logprobs"] == kept


async def test_logprobs_that_nobody_asked_for_are_not_told() -> None:
    _, events, _ = await events_of(chunk_with_logprobs("one", "one"), chunk(None, finish="stop") + b"data: [DONE]\n\n")
    assert told(events) == [("one", [])]
