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
    "SUMMARY",
    "Item",
    "Logprob",
    "Message",
    "ResponseBody",
    "SearchResult",
    "call_arguments",
    "file_part",
    "has_searched",
    "image_part",
    "images_of",
    "item_messages",
    "joined",
    "shown",
    "shows_images",
    "speaks",
    "text_of",
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
"""A message as the model gets it, in the JSON of Chat Completions: its ``role`` and its ``content``, a text or, where
there are images, parts (`text_of` and `images_of` tell them apart); or one call of a function, in ``tool_calls``,
with ``by_model``, whether the model made it here; or what a function returned, with ``tool_call_id``; or only what an
assistant thought, in ``reasoning``; or what stands for all that was said before it but the last ``keeps`` messages, in
``summary``, with the ``turns`` that it sums up. `joined` makes of them what a pod gets."""

SUMMARY = "summary"
"""The role of a message that is a summary: it is no pod's to see."""

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


def shown(item: Item, *, results: bool = True, images: bool = False) -> Item:
    """The item as callers see it: of its files not what was read of them, and ``results`` of a search and the data of
    ``images`` if they ask."""
    parts = _parts(item)
    if any(_TURN in part or _IMAGE in part for part in parts):
        return {**item, _PARTS[item["type"]]: [_part_shown(part, images=images) for part in parts]}
    return item if results else without_results(item)


def _part_shown(part: Item, *, images: bool) -> Item:
    said = {name: value for name, value in part.items() if name not in {_TURN, _IMAGE}}
    return {**said, "image_url": part[_IMAGE]} if images and _IMAGE in part else said


_PARTS = {"message": "content", "function_call_output": "output"}
"""Which field of items has parts that callers may have sent with files or images."""

_TURN = "turn"
"""Of a part that is a file: the whole turn in which the model is given it (`cloister_gateway.grounding.excerpts`)."""

_IMAGE = "image"
"""Of a part that is an image: the data URL in which the model is given it. (What a caller is shown of it is the same,
under OpenAI's name: but most who list items do not want megabytes.)"""


def shows_images(items: Iterable[Item]) -> bool:
    """Whether there is an image in ``items``, as they are stored."""
    return any(_IMAGE in part for item in items for part in _parts(item))


def _parts(item: Item) -> list[Item]:
    """The parts of an item in which there may be files or images."""
    field = _PARTS.get(item["type"])
    # (An output may be a text of a million characters: going through these would hold everybody up.)
    return [] if field is None or isinstance(item[field], str) else item[field]


def file_part(filename: str, file_id: str | None, turn: str) -> Item:
    """What is stored of a file in a message."""
    part = {"type": "input_file", "filename": filename, _TURN: turn}
    return part if file_id is None else {**part, "file_id": file_id}


def image_part(url: str, file_id: str | None, detail: str) -> Item:
    """What is stored of an image in a message, or in what a function returned."""
    part = {"type": "input_image", "detail": detail, _IMAGE: url}
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
                content = _content(item["content"])
                if content:
                    role = "system" if item["role"] == "developer" else item["role"]
                    messages.append({"role": role, "content": content})
            case "reasoning":
                text = _text(item.get("content") or ())
                if text:
                    messages.append({"role": "assistant", "reasoning": text})
            case "compaction":
                said = item["cloister"]
                messages.append({"role": SUMMARY, **{name: said[name] for name in ("summary", "turns", "keeps")}})
            case "function_call":
                function = {"name": item["name"], "arguments": call_arguments(item["arguments"])}
                call = {"id": item["call_id"], "type": "function", "function": function}
                by_model = item["id"].startswith(CALL_OF_MODEL)
                messages.append({"role": "assistant", "tool_calls": [call], "by_model": by_model})
            case "function_call_output":
                output = item["output"]
                content = output if isinstance(output, str) else _content(output)
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
    return messages


def _content(parts: Sequence[Item]) -> str | list[Item]:
    """What a message says: a text, or with images parts of both, each at its place."""
    if not any(_IMAGE in part for part in parts):
        return _text(parts)
    return [
        {"type": "image_url", "image_url": {"url": part[_IMAGE]}} if _IMAGE in part else text
        for part in parts
        if _IMAGE in part or (text := {"type": "text", "text": _text([part])})["text"]
    ]


def text_of(message: Message) -> str:
    """The text of a message."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def images_of(message: Message) -> list[str]:
    """The images in a message, as data URLs."""
    content = message.get("content")
    return [part["image_url"]["url"] for part in content if "image_url" in part] if isinstance(content, list) else []


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
        if message["role"] == SUMMARY:
            continue
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
