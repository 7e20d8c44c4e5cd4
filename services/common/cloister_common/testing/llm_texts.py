"""The completions of texts of a `FakeLlm`: vLLM's shapes, with the tokens and the pace that its chats have."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["is_text", "text_answer", "text_chunks", "text_frame"]

Body = dict[str, Any]


def is_text(body: Body) -> bool:
    """Whether the request is about texts, not a chat."""
    return "prompt" in body


def text_frame(model: str) -> Body:
    """What all chunks of an answer share, and the whole answer too."""
    return {
        "id": f"cmpl-{time.monotonic_ns():x}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model,
    }


def text_answer(model: str, body: Body, tokens: Sequence[str], finish: str, usage: Body) -> Body:
    """A whole answer."""
    choices = [
        {
            **_choice(index, (prompt if body.get("echo") else "") + "".join(tokens), finish),
            "logprobs": _logprobs(body, tokens),
            "prompt_logprobs": None,
        }
        for index, prompt in enumerate(_prompts(body))
    ]
    extra = {"service_tier": None, "system_fingerprint": None, "kv_transfer_params": None}
    return {**text_frame(model), "choices": choices, "usage": usage, **extra}


def text_chunks(body: Body, tokens: Sequence[str], finish: str) -> Iterator[Body | None]:
    """The choices of a stream, with None where the next token's time has come."""
    prompts = _prompts(body)
    if body.get("echo"):
        for index, prompt in enumerate(prompts):
            yield _choice(index, prompt, None)
    for number, token in enumerate(tokens, start=1):
        yield None
        for index in range(len(prompts)):
            last = finish if number == len(tokens) else None
            yield {**_choice(index, token, last), "logprobs": _logprobs(body, [token])}


def _prompts(body: Body) -> list[str]:
    """The prompt of each choice, in order."""
    prompt = body["prompt"]
    return [text for text in (prompt if isinstance(prompt, list) else [prompt]) for _ in range(int(body.get("n") or 1))]


def _choice(index: int, text: str, finish: str | None) -> Body:
    return {
        "index": index,
        "text": text,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": None,
        "token_ids": None,
        "prompt_token_ids": None,
    }


def _logprobs(body: Body, tokens: Sequence[str]) -> Body | None:
    if body.get("logprobs") is None:
        return None
    return {
        "text_offset": [0] * len(tokens),
        "token_logprobs": [-0.5] * len(tokens),
        "tokens": list(tokens),
        "top_logprobs": [{token: -0.5} if body["logprobs"] else {} for token in tokens],
    }
