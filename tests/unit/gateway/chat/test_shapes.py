"""Chat completions as they go out, of what vLLM says: what OpenAI's schema has, and nothing of vLLM's own."""

import copy

import orjson
import pytest
from cloister_gateway.chat.shapes import ChunkShapes, completion
from cloister_gateway.models import ChatModel
from hypothesis import given
from hypothesis import strategies as st

from tests.support.openai_schema.checker import SCHEMA

MODEL = ChatModel("fake", 2048, 100)
HEAD = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1764200000,"model":"fake","choices":['
FIRST = (
    HEAD + b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
    b'"prompt_token_ids":null,"prompt_text":null}\n\n'
)
LAST = (
    HEAD + b'{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":2,"token_ids":null}'
    b'],"system_fingerprint":"vllm-0.32.0"}\n\n'
)
USAGE = (
    HEAD + b'],"usage":{"prompt_tokens":3,"total_tokens":5,"completion_tokens":2},"metrics":{"ttft":1}}\n\n'
    b"data: [DONE]\n\n"
)
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1764200000,
    "model": "fake",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello",
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "reasoning": None,
            },
            "logprobs": None,
            "finish_reason": "stop",
            "stop_reason": None,
            "token_ids": None,
            "routed_experts": None,
        }
    ],
    "service_tier": None,
    "system_fingerprint": "vllm-0.32.0",
    "usage": {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None},
    "prompt_logprobs": None,
    "prompt_token_ids": None,
    "prompt_text": None,
    "kv_transfer_params": None,
    "ec_transfer_params": None,
    "metrics": None,
}


def token(text: bytes, more: bytes = b"") -> bytes:
    return (
        HEAD
        + b'{"index":0,"delta":{"content":"%b"%b},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
        % (text, more)
    )


def chunks(block: bytes) -> list[dict[str, object]]:
    assert block.endswith(b"\n\n")
    events = [event.removeprefix(b"data: ") for event in block.split(b"\n\n") if event]
    found = [orjson.loads(event) for event in events if event != b"[DONE]"]
    assert [SCHEMA.faults(SCHEMA.roots["ChatCompletionChunk"], chunk) for chunk in found] == [[]] * len(found)
    return found


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("usage", [False, True])
def test_chunks_have_openais_fields_and_no_other(together: bool, usage: bool) -> None:
    shapes = ChunkShapes(MODEL, usage=usage)
    blocks = [FIRST, token(b"one"), token(b' \\"token_ids\\":null} two'), LAST, USAGE]
    out = shapes.block(b"".join(blocks)) if together else b"".join([shapes.block(block) for block in blocks])
    assert out.endswith(b"data: [DONE]\n\n")
    found = chunks(out)
    heads = [{name: chunk[name] for name in chunk if name not in {"choices", "usage"}} for chunk in found]
    assert heads == [heads[0]] * 5
    assert heads[0] == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1764200000,
        "model": "fake",
        "service_tier": "default",
        "system_fingerprint": MODEL.fingerprint,
    }
    assert [[choice["delta"] for choice in chunk["choices"]] for chunk in found] == [  # type: ignore[attr-defined]
        [{"role": "assistant", "content": ""}],
        [{"content": "one"}],
        [{"content": ' "token_ids":null} two'}],
        [{"content": ""}],
        [],
    ]
    assert [chunk.get("usage", "missing") for chunk in found][:4] == [None if usage else "missing"] * 4
    if usage:
        assert isinstance(found[4]["usage"], dict)


@given(st.text(min_size=1))
def test_reasoning_goes_out_under_both_names_that_clients_read(text: str) -> None:
    shapes = ChunkShapes(MODEL, usage=False)
    shapes.block(FIRST)
    event = token(b"", b',"reasoning":' + orjson.dumps(text))
    both = {"reasoning": text, "reasoning_content": text}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(shapes.block(event + event))]  # type: ignore[index]
    assert deltas == [{"content": "", **both}] * 2
    whole = copy.deepcopy(WHOLE)
    whole["choices"][0]["message"]["reasoning"] = text  # type: ignore[index]
    assert orjson.loads(completion(orjson.dumps(whole), MODEL))["choices"][0]["message"].items() >= both.items()


@pytest.mark.parametrize("text", [b'{\\"reasoning\\":\\"x\\"}', b"reasoning"])
def test_no_reasoning_goes_out_where_there_is_none(text: bytes) -> None:
    shapes = ChunkShapes(MODEL, usage=False)
    shapes.block(FIRST)
    found = chunks(shapes.block(token(text, b',"reasoning":null')) + shapes.block(token(text)))
    deltas = [chunk["choices"][0]["delta"] for chunk in found]  # type: ignore[index]
    assert deltas == [{"content": text.decode().replace("\\", "")}] * 2


def test_whole_answer_has_openais_fields_and_no_other() -> None:
    answer = orjson.loads(completion(orjson.dumps(WHOLE), MODEL))
    assert SCHEMA.faults(SCHEMA.roots["ChatCompletion"], answer) == []
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hello",
        "refusal": None,
        "annotations": [],
    }
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0, "audio_tokens": 0}
    assert (answer["service_tier"], answer["system_fingerprint"]) == ("default", MODEL.fingerprint)


def test_parts_of_a_call_keep_only_what_they_say() -> None:
    piece = (
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"fake","choices":[{"index":0,"delta":'
    )
    call = b'{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"{}"},"id":null,"type":null}]}'
    found = chunks(ChunkShapes(MODEL, usage=False).block(piece + call + b',"finish_reason":null}]}\n\n'))
    delta = found[0]["choices"][0]["delta"]  # type: ignore[index]
    assert delta == {"content": None, "tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
