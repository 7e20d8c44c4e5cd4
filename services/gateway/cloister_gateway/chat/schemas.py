"""What ``POST /v1/chat/completions`` accepts: OpenAI's schema as far as it is served, the rest refused by name.

Source: OpenAI API reference, "Create chat completion". ``messages`` are checked by `ChatRequest.check`, which can
name the place (``messages[2].content[0].type``) that a validator inside the model could not.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from cloister_common.errors import InvalidRequest
from cloister_common.wire.requests import Extension, Hint, hints_of
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, Tag, model_validator

from cloister_gateway.chat.messages import Message, check_message, images_in, upstream_message
from cloister_gateway.models.reasoning import Effort, thinking
from cloister_gateway.wire.inputs import FunctionName
from cloister_gateway.wire.parameters import (
    FrequencyPenalty,
    IgnoreEos,
    MinP,
    MinTokens,
    Obfuscation,
    PresencePenalty,
    PromptCacheBreakpoint,
    PromptCacheOptions,
    PromptCacheRetention,
    RepetitionPenalty,
    SafetyIdentifier,
    Seed,
    ServiceTier,
    Temperature,
    TopK,
    TopLogprobs,
    TopP,
    User,
    Verbosity,
    pod_top_p,
)
from cloister_gateway.wire.strict import LARGEST_NUMBER, Schema, Strict, by_type, only
from cloister_gateway.wire.tools import Function, check_named

__all__ = ["ChatRequest"]

_MOST_CHOICES = 8
_MOST_BIASES = 1024
_MOST_TOOLS = 128


class Tool(Strict):
    """A tool the model may call. Functions only; they run at the caller's."""

    type: Annotated[Literal["function"], only("function")]
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


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("[mode]")]
    | Annotated[NamedTool, Tag("[function]")]
    | Annotated[AllowedTools, Tag("[allowed_tools]")],
    by_type("function", "allowed_tools", plain="mode"),
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
    include_obfuscation: Obfuscation = None
    continuous_usage_stats: Annotated[bool | None, Extension("vLLM")] = Field(
        None, description="With `include_usage`: each chunk says what was used so far."
    )


class PredictedText(Strict):
    """A part of a prediction."""

    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint = None


class Prediction(Strict):
    """Text that OpenAI's models may go through faster where the answer repeats it."""

    type: Literal["content"]
    content: str | Annotated[list[PredictedText], Field(fail_fast=True)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stop = Annotated[
    list[Annotated[str, Field(min_length=1)]], Field(max_length=4, fail_fast=True), BeforeValidator(_as_list)
]
LogitBias = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^[0-9]{1,7}$")], Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=_MOST_BIASES, fail_fast=True),
]


class ChatRequest(Strict):
    """The request body."""

    refused: ClassVar[Mapping[str, str]] = {
        "audio": "Models here answer in text only.",
        "function_call": "It is the old name of 'tool_choice'. Send that.",
        "functions": "It is the old name of 'tools'. Send those.",
        "moderation": "Nothing here moderates. Leave it out.",
        "web_search_options": "Nothing here reaches the web. Leave it out.",
    }

    model: str = Field(description="One of `GET /v1/models`.")
    messages: list[Message] = Field(min_length=1, fail_fast=True)
    stream: bool | None = None
    stream_options: StreamOptions | None = Field(None, description="With `stream: true` only.")
    stop: Stop | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = Field(None, description="0 leaves the likeliest token alone.")
    max_tokens: Annotated[int, Field(ge=1, le=LARGEST_NUMBER)] | None = Field(
        None, description="The old name of `max_completion_tokens`: one of both."
    )
    max_completion_tokens: Annotated[int, Field(ge=1, le=LARGEST_NUMBER)] | None = None
    n: Annotated[int, Field(ge=1, le=_MOST_CHOICES)] | None = Field(None, description=f"Up to {_MOST_CHOICES}.")
    presence_penalty: PresencePenalty | None = None
    frequency_penalty: FrequencyPenalty | None = None
    logit_bias: LogitBias | None = Field(
        None, description=f"By the model's own token ids, up to {_MOST_BIASES}; an id that it does not have is a 400."
    )
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = Field(None, description="With `logprobs: true`.")
    tools: Annotated[list[Tool], Field(max_length=_MOST_TOOLS, fail_fast=True)] | None = Field(
        None, description="[Functions](api.md#functions), which run at the caller's."
    )
    tool_choice: ToolChoice | None = Field(None, description="All forms, of functions.")
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = Field(
        None, description="Enforced while the answer is sampled; [the bounds](api.md#where-we-differ-on-purpose)."
    )
    reasoning_effort: Effort | None = Field(
        None, description="As far as the model's chat template knows it; [more](api.md#reasoning)."
    )
    prompt_cache_key: str | None = Field(
        None, max_length=512, description="Requests with the same key go to the pod that has their common beginning."
    )
    prompt_cache_options: Annotated[PromptCacheOptions | None, Hint("See its fields.")] = None
    prompt_cache_retention: PromptCacheRetention = None
    user: User = None
    safety_identifier: SafetyIdentifier = None
    service_tier: ServiceTier = None
    verbosity: Verbosity = None
    modalities: Annotated[
        list[Annotated[Literal["text"], only("text")]] | None,
        Field(fail_fast=True),
        Hint("Answers are text. Others are refused."),
    ] = None
    prediction: Annotated[Prediction | None, Hint("It makes an answer faster at OpenAI, and no other.")] = None
    metadata: Annotated[
        dict[str, str] | None, Field(fail_fast=True), Hint("It labels stored completions, and none is stored.")
    ] = None
    store: Annotated[
        bool | None, Hint("Chat completions are not stored, so none can be fetched later. `/v1/responses` are.")
    ] = None

    ignore_eos: IgnoreEos = None
    min_tokens: MinTokens = None
    top_k: TopK = None
    min_p: MinP = None
    repetition_penalty: RepetitionPenalty = None

    def check(self) -> None:
        """What no single field can tell.

        Raises:
            InvalidRequest: Fields contradict each other, or a message is not one of its role.
        """
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("'stream_options' needs 'stream': true.", param="stream_options")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequest(
                "'max_tokens' is the old name of 'max_completion_tokens'. Send one.", param="max_tokens"
            )
        most = self.max_completion_tokens or self.max_tokens
        if self.min_tokens and most is not None and self.min_tokens > most:
            raise InvalidRequest(f"'min_tokens' is over the longest answer, {most}.", param="min_tokens")
        if self.tool_choice not in (None, "auto", "none") and not self.tools:
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

    def images(self) -> list[tuple[str, dict[str, Any]]]:
        """The parts that are images, each with its place, once they have been checked."""
        return [found for at, message in enumerate(self.messages) for found in images_in(message, f"messages[{at}]")]

    def upstream_body(self) -> dict[str, Any]:
        """The body for vLLM: only what was sent, without what ends at the gateway."""
        fields = self.__dict__.items()
        body = {name: _plain(value) for name, value in fields if value is not None and name not in _ENDS_HERE}
        body |= thinking(self.reasoning_effort)
        if isinstance(self.tool_choice, AllowedTools):
            # vLLM knows no such choice: the others are not shown to the model.
            chosen = self.tool_choice.allowed_tools
            allowed = {tool.function.name for tool in chosen.tools}
            body["tools"] = [_plain(tool) for tool in self.tools or [] if tool.function.name in allowed]
            body["tool_choice"] = chosen.mode
        body["messages"] = [upstream_message(message) for message in self.messages]
        if self.top_p is not None:
            body["top_p"] = pod_top_p(self.top_p)
        if not self.logprobs:
            body.pop("top_logprobs", None)
        if not self.tools:
            for name in ("tools", "tool_choice", "parallel_tool_calls"):
                body.pop(name, None)
        return body


_ENDS_HERE = hints_of(ChatRequest) | {"stream", "messages", "prompt_cache_key", "service_tier"}


def _plain(value: Any) -> Any:
    """A field's value as it is sent. Most are plain already, which is found out quicker than by dumping the model."""
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, exclude_none=True, exclude=set(hints_of(type(value))))
    return [_plain(element) for element in value] if isinstance(value, list) else value
