"""What a stream's pod says of its use at the end reaches the gateway always, and the caller who asked."""

import orjson
import pytest
from cloister_gateway.chat.prompts import tell_usage
from cloister_gateway.chat.shapes import ChunkShapes
from cloister_gateway.completions.shapes import chunks
from cloister_gateway.models import ChatModel

MODEL = ChatModel("fake", 2048, 100)
DONE = b"data: [DONE]\n\n"


def event(kind: str, choices: list[dict[str, object]]) -> bytes:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    chunk = {"id": "c", "object": kind, "created": 1, "model": "fake", "choices": choices}
    return b"data: " + orjson.dumps(chunk if choices else {**chunk, "usage": usage}) + b"\n\n"


@pytest.mark.parametrize(
    ("asked", "told"), [(None, False), ({"include_usage": False}, False), ({"include_usage": True}, True)]
)
def test_a_pod_is_always_asked_what_it_used(asked: dict[str, bool] | None, told: bool) -> None:
    body: dict[str, object] = {} if asked is None else {"stream_options": asked}
    assert tell_usage(body) is told
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("wanted", [True, False])
def test_only_who_asked_is_told(wanted: bool) -> None:
    token = event("chat.completion.chunk", [{"index": 0, "delta": {"content": "hi"}}])
    chat = ChunkShapes(MODEL, usage=wanted, ours=not wanted).block(token + event("chat.completion.chunk", []) + DONE)
    text = event("text_completion", [{"index": 0, "text": '"choices":[]'}])
    written = chunks(text + event("text_completion", []) + DONE, MODEL, usage=wanted)
    for out in (chat, written):
        assert out.count(b"data: ") == (3 if wanted else 2)
        assert out.endswith(DONE)
        assert (b'"prompt_tokens":3' in out) is wanted
