"""What ``POST /v1/chat/completions`` accepts: OpenAI's schema as far as it is served, the rest refused by name.

Source: OpenAI API reference, "Create chat completion". ``messages`` are checked by `ChatRequest.check`, which can
name the place (``messages[2].content[0].type``) that a validator inside the model could not.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, model_validator

from cloister_gateway.chat.messages import Message, check_message, upstream_message
from cloister_gateway.models.reasoning import Effort, thinking
from cloister_gateway.wire.inputs import FunctionName
from cloister_gateway.wire.strict import LARGEST_NUMBER, Schema, Strict
from cloister_gateway.wire.tools import Function, check_named

__all__ = ["ChatRequest"]

_MOST_CHOICES = 8
_MOST_TOOLS = 128
_INT64 = 2**63


class Tool(Strict):
    """A tool the model may call. Functions only; they run at the caller's."""

    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    """The function that must be called."""

    name: FunctionName


class NamedTool(Strict):
    """``tool_choice`` as an object: the function that must be called; or one that may be."""

    type: Literal["function"]
    function: NamedFunction


class Allowed(Strict):
    """Those of the functions that may be called, or of which one must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=_MOST_TOOLS, fail_fast=True)]


class AllowedTools(Strict):
    """``tool_choice`` as some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: Allowed


def _type(choice: Any) -> str:
    return f"[{choice.get('type')}]" if isinstance(choice, dict) else f"[{getattr(choice, 'type', 'mode')}]"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("[mode]")]
    | Annotated[NamedTool, Tag("[function]")]
    | Annotated[AllowedTools, Tag("[allowed_tools]")],
    Discriminator(
        _type,
        custom_error_type="unsupported_type",
        custom_error_message="only function, allowed_tools is supported",
    ),
]


class JsonSchema(Strict):
    """A JSON schema the answer must match."""

    name: FunctionName
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    """Plain text, any JSON object, or JSON that matches a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_belongs_to_its_type(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("'json_schema' goes with type 'json_schema', and only with it")
        return self


class StreamOptions(Strict):
    """What a stream carries besides its tokens."""

    include_usage: bool | None = None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stop = Annotated[
    list[Annotated[str, Field(min_length=1)]], Field(max_length=4, fail_fast=True), BeforeValidator(_as_list)
]


class ChatRequest(Strict):
    """The request body."""

    nullable: ClassVar[frozenset[str]] = frozenset(
        {
            "audio",
            "logit_bias",
            "modalities",
            "moderation",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "verbosity",
        }
    )

    model: str
    messages: list[Message] = Field(min_length=1, fail_fast=True)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Stop | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=LARGEST_NUMBER)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=LARGEST_NUMBER)] | None = None
    n: Annotated[int, Field(ge=1, le=_MOST_CHOICES)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=_MOST_TOOLS, fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    user: str | None = None
    metadata: Annotated[dict[str, str], Field(fail_fast=True)] | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default"] | None = None

    def check(self) -> None:
        """What no single field can tell.

        Raises:
            InvalidRequest: Fields contradict each other, or a message is not one of its role.
        """
        if self.store:
            raise UnsupportedParameter(
                "store", "Chat completions are not stored here. Leave 'store' out, or use /v1/responses."
            )
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("'stream_options' needs 'stream': true.", param="stream_options")
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequest(
                "'max_tokens' is the old name of 'max_completion_tokens'. Send one.", param="max_tokens"
            )
        if self.tool_choice is not None and self.tools is None:
            raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")
        self._check_named()
        for index, message in enumerate(self.messages):
            check_message(message, f"messages[{index}]")

    def _check_named(self) -> None:
        names = {tool.function.name for tool in self.tools or []}
        if isinstance(self.tool_choice, NamedTool):
            check_named(self.tool_choice.function.name, names, param="tool_choice.function.name")
        elif isinstance(self.tool_choice, AllowedTools):
            for place, tool in enumerate(self.tool_choice.allowed_tools.tools):
                param = f"tool_choice.allowed_tools.tools[{place}].function.name"
                check_named(tool.function.name, names, param=param)

    def upstream_body(self) -> dict[str, Any]:
        """The body for vLLM: only what was sent, without what ends at the gateway."""
        fields = self.__dict__.items()
        body = {name: _plain(value) for name, value in fields if value is not None and name not in _ENDS_HERE}
        if isinstance(self.tool_choice, AllowedTools):
            # vLLM knows no such choice: the others are not shown to the model.
            chosen = self.tool_choice.allowed_tools
            allowed = {tool.function.name for tool in chosen.tools}
            body["tools"] = [_plain(tool) for tool in self.tools or [] if tool.function.name in allowed]
            body["tool_choice"] = chosen.mode
        body |= thinking(self.reasoning_effort)
        body["messages"] = [upstream_message(message) for message in self.messages]
        return body


_ENDS_HERE = frozenset({"user", "metadata", "store", "service_tier", "stream", "messages"})


def _plain(value: Any) -> Any:
    """A field's value as it is sent. Most are plain already, which is found out quicker than by dumping the model."""
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, exclude_none=True)
    return [_plain(element) for element in value] if isinstance(value, list) else value
