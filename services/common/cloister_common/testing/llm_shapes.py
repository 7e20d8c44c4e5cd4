"""What a `FakeLlm` sends, in vLLM's shapes: calls in pieces and whole, choices, logprobs, usage; and how it counts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Body",
    "Call",
    "answers",
    "choice",
    "end_of_call",
    "logprobs",
    "pieces",
    "prompt_tokens",
    "rest",
    "texts",
    "usage",
    "whole_calls",
]

Body = dict[str, Any]

_PIECE_CHARACTERS = 4
"""Of the arguments of a call, which a stream brings in as many pieces."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function, as part of an answer; left out where the request has no ``tools``, or chooses none.

    Attributes:
        name: The function.
        arguments: JSON.
    """

    name: str
    arguments: str


def pieces(index: int, call: Call) -> list[Body]:
    """A call as a stream brings it: its name, then its arguments bit by bit."""
    head = {"name": call.name, "arguments": ""}
    deltas: list[Body] = [{"id": f"call_fake{index}", "type": "function", "index": index, "function": head}]
    for start in range(0, len(call.arguments), _PIECE_CHARACTERS):
        piece = call.arguments[start : start + _PIECE_CHARACTERS]
        deltas.append({"index": index, "function": {"arguments": piece}})
    return [{"tool_calls": [delta]} for delta in deltas]


def whole_calls(tokens: Sequence[Body]) -> list[Body]:
    """The calls among the deltas of a stream, as an answer has them that is not streamed."""
    calls: dict[int, Body] = {}
    for delta in (delta for token in tokens for delta in token.get("tool_calls", ())):
        if "id" in delta:
            calls[delta["index"]] = {**delta, "function": {**delta["function"]}}
            del calls[delta["index"]]["index"]
        else:
            calls[delta["index"]]["function"]["arguments"] += delta["function"]["arguments"]
    return list(calls.values())


def rest(tokens: list[str], so_far: str) -> list[str]:
    """The tokens left after the text that was produced already, however it was cut into tokens then."""
    text = "".join(tokens)
    if not text.startswith(so_far):
        return tokens
    left: list[str] = []
    place = 0
    for token in tokens:
        keep = token[max(0, len(so_far) - place) :]
        if keep:
            left.append(keep)
        place += len(token)
    return left


def end_of_call(body: Body) -> str:
    """As OpenAI and vLLM have it: a call of a tool that the caller named ends as any answer does."""
    return "stop" if isinstance(body.get("tool_choice"), dict) else "tool_calls"


def choice(index: int, delta: Body, finish: str | None = None) -> Body:
    """A choice of a chunk."""
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def logprobs(body: Body, tokens: Sequence[Body]) -> Body | None:
    """What is told of tokens, all of them half as likely as not, where the caller asks."""
    if not body.get("logprobs"):
        return None
    texts = [token.get("content") or token.get("reasoning") or "" for token in tokens if "tool_calls" not in token]
    told = [{"token": text, "logprob": -0.5, "bytes": list(text.encode())} for text in texts]
    return {"content": [{**one, "top_logprobs": [one] * int(body.get("top_logprobs") or 0)} for one in told]}


def usage(prompt: int, completion: int) -> Body:
    """What was used, in tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def texts(tokens: Sequence[Body]) -> list[str]:
    """The text of each delta."""
    return [token.get("content", "") for token in tokens]


def answers(body: Body) -> int:
    """How many answers a request asks for."""
    prompts = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
    return prompts * int(body.get("n") or 1)


def prompt_tokens(body: Body) -> int:
    """How many words a prompt has, its tools among them."""
    if "prompt" in body:
        texts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        return sum(len(str(text).split()) for text in texts)
    said = sum(1 + len(_text(message.get("content")).split()) for message in body.get("messages", []))
    return said + len(json.dumps(body.get("tools") or []).split()) - 1


_IMAGE = " ".join(["<image>"] * 16)
"""What stands in a prompt for an image."""


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", _IMAGE)) for part in content)
    return str(content or "")
