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
    transcript = Transcript({"id": "resp_1", "status": "in_progress", "output": [], "usage": None})
    keyed = KeyedObject(RESPONSE, "resp_1", DataKey(bytes(32), tenant="proj_a"))
    answer = Answer(transcript, [], cite=True)
    work = Generation(
        Pod(*blocks),  # type: ignore[arg-type]  # all that a generation asks of it
        keyed,
        TurnRequest(model="fake", input=[]),
        [],
        most_tokens=64,
        answer=answer,
        calls=Calls([], parallel=True),
        tokens=transcript.tokens,
    )
    reason = await work.run()
    events = [orjson.loads(event) for event in transcript.take_pending()[1]]
    return reason, [event["delta"] for event in events if "delta" in event], transcript.tokens


async def test_each_read_is_one_event_with_all_the_text_of_its_chunks() -> None:
    reason, texts, tokens = await answer_of(
        chunk("", role="assistant", tokens=0),
        chunk("one", tokens=1),
        chunk(" two", tokens=2) + chunk(" three", tokens=3) + chunk("", tokens=4) + chunk(' "four"\n', tokens=5),
        chunk(None, finish="stop", tokens=6) + b"data: [DONE]\n\n",
    )
    assert (reason, texts) == ("stop", ["one", ' two three "four"\n'])
    assert (tokens.prompt, tokens.output) == (9, 6)


async def test_text_before_an_error_of_the_model_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_MOST_ATTEMPTS", 1)
    with pytest.raises(UpstreamFailed):
        await answer_of(chunk("one") + b'data: {"object": "error", "error": {"message": "m"}}\n\n')
