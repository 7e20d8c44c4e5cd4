"""Items in OpenAI's shape, as conversations keep them and as the model is given them.

What callers may send is in `cloister_gateway.wire.inputs`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

__all__ = [
    "CALL_OF_CALLER",
    "CALL_OF_MODEL",
    "Item",
    "Logprob",
    "Message",
    "ResponseBody",
    "SearchResult",
    "call_arguments",
    "file_part",
    "has_searched",
    "item_messages",
    "joined",
    "shown",
    "speaks",
    "with_results",
    "without_results",
]

Item = dict[str, Any]
"""An item of a conversation or of a response, in OpenAI's JSON."""
ResponseBody = dict[str, Any]
"""A response, or fields of one, in OpenAI's JSON."""
SearchResult = dict[str, Any]
"""One result of a file search, in OpenAI's JSON."""
Logprob = dict[str, Any]
"""How likely a token of an answer was, and the likeliest at its place: the same JSON of OpenAI's in both APIs."""
Message = dict[str, Any]
"""A message as the model is given it, in the JSON of Chat Completions: its ``role`` and its text, ``content``; or one
call of a function, in ``tool_calls``, with ``by_model``, whether the model made it here; or what a function returned,
with ``tool_call_id``; or only what an assistant thought, in ``reasoning``. `joined` makes of them what a pod gets."""

CALL_OF_MODEL = "fc_"
CALL_OF_CALLER = "fci_"
"""How the ids of calls begin: of those that the model made here, and of those that callers say it made."""


def with_results(output: list[Item], results: list[SearchResult] | None) -> list[Item]:
    """``output`` with what its file search found, where that is known."""
    if results is None:
        return output
    return [
        {**item, "results": results} if item["type"] == "file_search_call" and item["status"] == "completed" else item
        for item in output
    ]


def has_searched(output: list[Item]) -> bool:
    """Whether a file search of ``output`` came to its end: then what it found was kept."""
    return any(item["type"] == "file_search_call" and item["status"] == "completed" for item in output)


def without_results(item: Item) -> Item:
    """The item as those see it who did not ask for what a file search found."""
    return {**item, "results": None} if item["type"] == "file_search_call" else item


def shown(item: Item, *, results: bool = True) -> Item:
    """The item as callers see it: of its files not what was read of them, and ``results`` of a search if they ask."""
    if item["type"] == "message" and any(_TURN in part for part in item["content"]):
        parts = [{name: value for name, value in part.items() if name != _TURN} for part in item["content"]]
        return {**item, "content": parts}
    return item if results else without_results(item)


_TURN = "turn"
"""Of a part that is a file: the whole turn in which the model is given it (`cloister_gateway.grounding.excerpts`)."""


def file_part(filename: str, file_id: str | None, turn: str) -> Item:
    """What is stored of a file in a message."""
    part = {"type": "input_file", "filename": filename, _TURN: turn}
    return part if file_id is None else {**part, "file_id": file_id}


def item_messages(items: Sequence[Item]) -> list[Message]:
    """The messages among ``items``, one for each item that says something, and one before it for each of its files.

    ``developer`` is OpenAI's newer word for ``system``, and the only one of the two that chat templates do not know.
    """
    messages: list[Message] = []
    for item in items:
        match item["type"]:
            case "message":
                messages.extend({"role": "user", "content": part[_TURN]} for part in item["content"] if _TURN in part)
                text = _text(item["content"])
                if text:
                    role = "system" if item["role"] == "developer" else item["role"]
                    messages.append({"role": role, "content": text})
            case "reasoning":
                text = _text(item.get("content") or ())
                if text:
                    messages.append({"role": "assistant", "reasoning": text})
            case "function_call":
                function = {"name": item["name"], "arguments": call_arguments(item["arguments"])}
                call = {"id": item["call_id"], "type": "function", "function": function}
                by_model = item["id"].startswith(CALL_OF_MODEL)
                messages.append({"role": "assistant", "tool_calls": [call], "by_model": by_model})
            case "function_call_output":
                output = item["output"]
                text = output if isinstance(output, str) else _text(output)
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})
    return messages


def speaks(message: Message) -> bool:
    """Whether the message is more than a thought."""
    return "content" in message or "tool_calls" in message


def joined(messages: Sequence[Message]) -> list[Message]:
    """Messages as a pod takes them: calls stand together, in the assistant's message before them if there is one, and a
    thought is part of what came of it.

    Thoughts from before the last message of the user are left out, as the models' makers want it: what a turn came to
    is its answer. Whether the others are of use, the model's chat template knows.
    """
    asked = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=-1)
    found: list[Message] = []
    thought = ""
    for place, message in enumerate(messages):
        if not speaks(message):
            thought += message["reasoning"] if place > asked else ""
            continue
        calls = message.get("tool_calls")
        if thought and message["role"] == "assistant":
            said = {"role": "assistant", "content": "", "tool_calls": calls} if calls is not None else message
            found.append({**said, "reasoning": thought})
        elif calls is None:
            found.append(message)
        elif found and found[-1]["role"] == "assistant":
            found[-1] = {**found[-1], "tool_calls": [*found[-1].get("tool_calls", ()), *calls]}
        else:
            found.append({"role": "assistant", "content": "", "tool_calls": calls})
        thought = ""
    return found


def _text(parts: Iterable[Item]) -> str:
    return "".join(part["refusal"] if part["type"] == "refusal" else part.get("text", "") for part in parts)


def call_arguments(said: str) -> str:
    """Arguments as a pod takes them: an object in JSON. A model that is not held to it may have written anything."""
    try:
        # As vLLM reads them: what its parser does not take must not get there.
        whole = isinstance(json.loads(said), dict)
    except (ValueError, RecursionError):
        whole = False
    return said if whole else orjson.dumps({"arguments": said}).decode()
