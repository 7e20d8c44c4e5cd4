"""The messages of a chat completion, as callers send them and as a pod is given them.

An answer can be sent back as it came, from this server or another of OpenAI's schema, through whatever SDK: with the
fields that are null in it, the reasoning, the refusal, and what an SDK has read out of it (``parsed``). What the model
said goes to the pod, whose chat template decides what of it the model sees; what is only about what was said (citations
of an earlier answer, an SDK's reading of it, LiteLLM's ``provider_specific_fields``) ends here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.validation import validation_error
from cloister_common.wire.images import Detail
from cloister_common.wire.requests import Extension
from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cloister_gateway.wire.inputs import DataUrl, FunctionName
from cloister_gateway.wire.items import call_arguments
from cloister_gateway.wire.own import Dumped
from cloister_gateway.wire.strict import Object

__all__ = ["ImageUrl", "Message", "check_message", "images_in", "upstream_message"]

_HINTS = frozenset({"prompt_cache_breakpoint"})
"""Fields of parts that change no answer: where a beginning ends that the pods would find again by themselves."""

_PARTS = {"text": "text", "refusal": "refusal"}
"""The types of parts, and where each has its text."""


class ImageUrl(Dumped):
    """The image of a part of type ``image_url``."""

    url: DataUrl | None = None
    file_id: Annotated[str | None, Extension()] = Field(None, max_length=128)
    detail: Detail | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.url is None) == (self.file_id is None):
            raise PydanticCustomError("one_of_both", "either 'url' or 'file_id' must be sent")
        return self


class FunctionCall(Dumped):
    """A call the model made earlier."""

    name: FunctionName
    arguments: str
    parsed_arguments: Any = None


class ToolCall(Dumped):
    """A tool call in an assistant message."""

    id: str = Field(min_length=1)
    type: Literal["function"]
    function: FunctionCall
    index: int | None = None
    provider_specific_fields: Object | None = None


class Message(Dumped):
    """A message of any role; `check_message` knows which fields belong to which."""

    refused: ClassVar[Mapping[str, str]] = {
        "audio": "Models here read and write text only. Leave it out.",
        "function_call": "It is the old form of 'tool_calls'. Send those.",
    }

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Any = None
    name: Annotated[str, Field(max_length=256)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True)] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    annotations: Annotated[list[Object], Field(fail_fast=True)] | None = None
    parsed: Any = None
    provider_specific_fields: Object | None = None


_OF_ASSISTANTS = (
    "tool_calls",
    "reasoning",
    "reasoning_content",
    "refusal",
    "annotations",
    "parsed",
    "provider_specific_fields",
)


def check_message(message: Message, path: str) -> None:
    """What no single field can tell.

    Raises:
        InvalidRequest: A field is not one of the message's role, or its content is none.
    """
    if message.role != "assistant":
        for field in _OF_ASSISTANTS:
            if getattr(message, field) is not None:
                raise InvalidRequest(f"Only assistant messages have '{field}'.", param=f"{path}.{field}")
    if (message.role == "tool") != (message.tool_call_id is not None):
        raise InvalidRequest(
            "Messages of role 'tool', and only they, have 'tool_call_id'.", param=f"{path}.tool_call_id"
        )
    reasoning = {message.reasoning, message.reasoning_content} - {None, ""}
    if len(reasoning) > 1:
        raise InvalidRequest(
            "'reasoning' and 'reasoning_content' are two names of one thing, and differ. Send one.",
            param=f"{path}.reasoning_content",
        )
    if message.content is None:
        # What an assistant said may be all in other fields: calls, a refusal, or a thought that it did not come out of.
        if message.tool_calls or message.refusal or reasoning:
            return
        raise InvalidRequest(
            f"Missing required parameter: '{path}.content'.",
            param=f"{path}.content",
            code="missing_required_parameter",
        )
    _check_content(message, f"{path}.content")


def _check_content(message: Message, path: str) -> None:
    content = message.content
    if isinstance(content, str):
        return
    if not isinstance(content, list) or not (content or message.tool_calls):
        raise InvalidRequest(f"'{path}' must be a string or a list of text parts.", param=path, code="invalid_type")
    for index, part in enumerate(content):
        place = f"{path}[{index}]"
        if not isinstance(part, dict):
            raise InvalidRequest(f"'{place}' must be an object.", param=place, code="invalid_type")
        kind = part.get("type")
        if kind == "image_url" and message.role == "user":
            _check_image(part, place)
            continue
        field = _PARTS.get(kind) if isinstance(kind, str) else None
        if field is None or (field == "refusal" and message.role != "assistant"):
            also = " or 'image_url'" if message.role == "user" else ""
            raise UnsupportedParameter(f"{place}.type", f"'{place}.type' must be 'text'{also}.")
        for name, value in part.items():
            if name not in {"type", field, *_HINTS} and value is not None:
                raise UnsupportedParameter(f"{place}.{name}")
        if not isinstance(part.get(field), str):
            raise InvalidRequest(f"'{place}.{field}' must be a string.", param=f"{place}.{field}", code="invalid_type")


def _check_image(part: dict[str, Any], place: str) -> None:
    for name, value in part.items():
        if name not in {"type", "image_url", *_HINTS} and value is not None:
            raise UnsupportedParameter(f"{place}.{name}")
    try:
        part["image_url"] = ImageUrl.model_validate(part.get("image_url"))
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise validation_error([{**one, "loc": (f"{place}.image_url", *one["loc"])} for one in found]) from None


def images_in(message: Message, path: str) -> list[tuple[str, dict[str, Any]]]:
    """The parts of a checked message that are images, each with its place. Their ``image_url`` is an `ImageUrl`, and
    becomes what a pod is to be given."""
    parts = message.content if isinstance(message.content, list) else []
    return [(f"{path}.content[{at}]", part) for at, part in enumerate(parts) if "image_url" in part]


def upstream_message(message: Message) -> dict[str, Any]:
    """The message for vLLM."""
    # OpenAI's newer word for the operator's turn; the chat templates of open models know the older one.
    body: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
    content = _upstream_content(message)
    if content is not None:
        body["content"] = content
    if message.name is not None:
        body["name"] = message.name
    if message.tool_calls is not None:
        body["tool_calls"] = [_upstream_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    reasoning = message.reasoning or message.reasoning_content
    if reasoning:
        body["reasoning"] = reasoning
    return body


def _upstream_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call_arguments(call.function.arguments)}
    return {"id": call.id, "type": call.type, "function": function}


def _upstream_content(message: Message) -> Any:
    """What was said. A refusal was said too: no chat template has a place of its own for one."""
    content = message.content
    if isinstance(content, list):
        content = [_upstream_part(part) for part in content] or None
    if not message.refusal:
        return content
    if not content:
        return message.refusal
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [*parts, {"type": "text", "text": message.refusal}]


def _upstream_part(part: dict[str, Any]) -> dict[str, Any]:
    if "image_url" in part:
        return {"type": "image_url", "image_url": part["image_url"]}
    return {"type": "text", "text": part[_PARTS[part["type"]]]}
