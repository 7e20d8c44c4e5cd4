"""Items in OpenAI's shape: as callers send them, as conversations keep them, as the model is given them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from cloister_common.ids import new_id
from pydantic import BeforeValidator, Field

from cloister_gateway.wire.strict import Object, Strict, Text, only

__all__ = [
    "InputMessage",
    "InputText",
    "Item",
    "Logprob",
    "Message",
    "ResponseBody",
    "SearchResult",
    "has_searched",
    "input_item",
    "item_messages",
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
Message = dict[str, str]
"""A message as the model is given it: its ``role`` and its text, ``content``."""


class InputText(Strict):
    """A text part of an input message. ``output_text`` is what assistant messages of earlier turns carry."""

    type: Annotated[Literal["input_text", "output_text"], only("input_text", "output_text")] = "input_text"
    text: Text
    annotations: Annotated[list[Object], Field(fail_fast=True)] | None = None
    logprobs: Annotated[list[Object], Field(fail_fast=True)] | None = None


def _as_parts(content: Any) -> Any:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


class InputMessage(Strict):
    """A message of the input."""

    refused: ClassVar[Mapping[str, str]] = {"phase": "Models here do not tell phases of an answer. Leave it out."}

    type: Annotated[Literal["message"], only("message")] = "message"
    id: str | None = Field(None, max_length=128)
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[list[InputText], Field(min_length=1, max_length=64, fail_fast=True), BeforeValidator(_as_parts)]


def input_item(message: InputMessage) -> Item:
    """An input message as it is stored, with an id of its own."""
    if message.role == "assistant":
        content = [{"type": "output_text", "text": part.text, "annotations": []} for part in message.content]
    else:
        content = [{"type": "input_text", "text": part.text} for part in message.content]
    return {"id": new_id("msg_"), "type": "message", "role": message.role, "status": "completed", "content": content}


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


def item_messages(items: Sequence[Item]) -> list[Message]:
    """The messages among ``items``, as the model is given them: role and text.

    ``developer`` is OpenAI's newer word for ``system``, and the only one of the two that chat templates do not know.
    """
    messages = []
    for item in items:
        if item["type"] != "message":
            continue
        text = "".join(part.get("text", "") for part in item["content"])
        if text:
            role = "system" if item["role"] == "developer" else item["role"]
            messages.append({"role": role, "content": text})
    return messages
