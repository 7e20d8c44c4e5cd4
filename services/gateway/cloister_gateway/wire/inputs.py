"""The items that callers send, as the input of a turn and into conversations, each with what is stored of it."""

from typing import Annotated, Any, ClassVar, Literal

from cloister_common.ids import new_id
from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag

from cloister_gateway.wire.items import CALL_OF_CALLER, Item
from cloister_gateway.wire.strict import Object, Strict, Text, only

__all__ = [
    "CallId",
    "FunctionCall",
    "FunctionCallOutput",
    "FunctionName",
    "InputItem",
    "InputMessage",
    "InputText",
    "input_item",
]

FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]

_Status = Literal["in_progress", "completed", "incomplete"]


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

    nullable: ClassVar[frozenset[str]] = frozenset({"phase"})

    type: Literal["message"] = "message"
    id: str | None = Field(None, max_length=128)
    status: _Status | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[list[InputText], Field(min_length=1, max_length=64, fail_fast=True), BeforeValidator(_as_parts)]


class FunctionCall(Strict):
    """A call of a function that the model made earlier, sent back by who keeps the history."""

    nullable: ClassVar[frozenset[str]] = frozenset({"async", "caller", "created_by", "namespace"})

    type: Literal["function_call"]
    id: str | None = Field(None, max_length=128)
    status: _Status | None = None
    call_id: CallId
    name: FunctionName
    arguments: Text


class OutputText(InputText):
    """A text part of what a function returned."""

    nullable: ClassVar[frozenset[str]] = frozenset({"prompt_cache_breakpoint"})

    type: Annotated[Literal["input_text"], only("input_text")]


def _form(output: Any) -> str:
    return "[text]" if isinstance(output, str) else "[parts]"


class FunctionCallOutput(Strict):
    """What a called function returned: text, or parts of text."""

    nullable: ClassVar[frozenset[str]] = frozenset({"caller", "created_by", "name", "namespace"})

    type: Literal["function_call_output"]
    id: str | None = Field(None, max_length=128)
    status: _Status | None = None
    call_id: CallId
    output: Annotated[
        Annotated[Text, Tag("[text]")]
        | Annotated[list[OutputText], Field(min_length=1, max_length=64, fail_fast=True), Tag("[parts]")],
        Discriminator(_form),
    ]


def _kind(item: Any) -> str:
    kind = (item.get("type") or "message") if isinstance(item, dict) else getattr(item, "type", "message")
    return f"[{kind}]"


InputItem = Annotated[
    Annotated[InputMessage, Tag("[message]")]
    | Annotated[FunctionCall, Tag("[function_call]")]
    | Annotated[FunctionCallOutput, Tag("[function_call_output]")],
    # (In brackets, a kind is no part of a field's path; see `cloister_common.validation`.)
    Discriminator(
        _kind,
        custom_error_type="unsupported_type",
        custom_error_message="only message, function_call, function_call_output is supported",
    ),
]
"""An item as a caller sends it; one without a ``type`` is a message."""


def input_item(sent: InputItem) -> Item:
    """An item as it is stored, with an id of its own."""
    match sent:
        case FunctionCall():
            said = {"call_id": sent.call_id, "name": sent.name, "arguments": sent.arguments}
            return {"id": new_id(CALL_OF_CALLER), "type": sent.type, "status": "completed", **said}
        case FunctionCallOutput():
            parts = [] if isinstance(sent.output, str) else sent.output
            output = [{"type": "input_text", "text": part.text} for part in parts] or sent.output
            returned = {"call_id": sent.call_id, "output": output}
            return {"id": new_id("fco_"), "type": sent.type, "status": "completed", **returned}
    if sent.role == "assistant":
        content = [{"type": "output_text", "text": part.text, "annotations": []} for part in sent.content]
    else:
        content = [{"type": "input_text", "text": part.text} for part in sent.content]
    return {"id": new_id("msg_"), "type": "message", "role": sent.role, "status": "completed", "content": content}
