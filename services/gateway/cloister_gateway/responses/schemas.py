"""What a caller may send to create a response. Anything else is refused by name, never ignored.

The *answers* are the ``openai`` package's own types; requests are ours, because what we accept is narrower.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from cloister_common.wire.requests import Extension, Hint
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from cloister_gateway.models.reasoning import Effort
from cloister_gateway.responses.tools import ToolChoice, Tools
from cloister_gateway.wire.includes import LOGPROBS, RESULTS, SEALED_REASONING, Included
from cloister_gateway.wire.inputs import FunctionCallOutput, InputItem, InputMessage
from cloister_gateway.wire.parameters import (
    FrequencyPenalty,
    Obfuscation,
    PresencePenalty,
    PromptCacheOptions,
    PromptCacheRetention,
    SafetyIdentifier,
    ServiceTier,
    Temperature,
    TopLogprobs,
    TopP,
    User,
    Verbosity,
)
from cloister_gateway.wire.strict import LARGEST_NUMBER, MAX_INPUT_CHARACTERS, Metadata, Schema, Strict, Text, only

__all__ = [
    "CompactInput",
    "ConversationReference",
    "CountInput",
    "CreateResponse",
    "ResponseParameters",
    "SocketCreate",
    "TextFormat",
]


def _as_messages(value: Any) -> Any:
    """Plain text is one message of the user."""
    if not isinstance(value, str):
        return value
    if not 0 < len(value) <= MAX_INPUT_CHARACTERS:
        raise PydanticCustomError(
            "text_length", "must have between 1 and {most} characters", {"most": MAX_INPUT_CHARACTERS}
        )
    return [{"role": "user", "content": value}]


class ConversationReference(Strict):
    """``conversation: {"id": …}``."""

    id: str = Field(min_length=1, max_length=128)


def _as_reference(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


class Format(Strict):
    """Plain text, any JSON object, or JSON that follows a schema: vLLM enforces it while it samples."""

    type: Annotated[Literal["text", "json_object", "json_schema"], only("text", "json_object", "json_schema")]
    name: str | None = Field(None, min_length=1, max_length=64)
    schema_: Schema | None = Field(None, alias="schema")
    description: str | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _fields_fit(self) -> "Format":
        given = (self.name, self.schema_)
        if self.type == "json_schema" and None in given:
            raise PydanticCustomError("missing_schema", "'json_schema' needs 'name' and 'schema'")
        if self.type != "json_schema" and (*given, self.description, self.strict) != (None,) * 4:
            raise PydanticCustomError("needless_schema", "only 'json_schema' has further fields")
        return self


class TextFormat(Strict):
    """``text: {"format": …}``."""

    format: Format | None = Field(
        None, description="Enforced while the answer is sampled; [the bounds](api.md#where-we-differ-on-purpose)."
    )
    verbosity: Verbosity = None


class StreamOptions(Strict):
    """What events carry."""

    include_obfuscation: Obfuscation = None


class AccessPrograms(Strict):
    """Who may ask OpenAI's models what."""

    cyber: Annotated[
        Literal["standard"] | None, only("standard"), Hint("Models here know no programs but the standard one.")
    ] = None


class BackgroundOptions(Strict):
    """How soon OpenAI begins with what runs in the background."""

    completion_window: Annotated[
        Literal["soonest", "2h", "8h"] | None,
        Hint("It begins when its turn comes, behind what somebody waits for; nothing is put off until a window ends."),
    ] = None
    continuation_id: Annotated[str | None, Field(max_length=512), Hint("Nothing is put first in the queue by it.")] = (
        None
    )


class ImageOptions(Strict):
    """How OpenAI thins out images."""

    context_compression: Annotated[
        Literal["auto", "disabled"] | None, only("auto", "disabled"), Hint("Nothing is compressed.")
    ] = None


class CacheOptions(PromptCacheOptions):
    """What Responses has of them besides."""

    refused: ClassVar[Mapping[str, str]] = {
        "comparison_response_id": "What the cache did stands in 'usage'. Leave it out."
    }

    prewarm: Annotated[
        Literal[False] | None, only(False), Hint("`true` asks for no answer at all, and is refused.")
    ] = None


class ContextManagement(Strict):
    """When history is summed up."""

    type: Annotated[Literal["compaction"], only("compaction")]
    compact_threshold: int | None = Field(
        None,
        ge=1,
        le=LARGEST_NUMBER,
        description="Tokens of history; half of the model's context unless asked otherwise.",
    )


_SHOWN_WHOLE = Hint("Reasoning is shown whole, so nothing is summed up of it.")


class Reasoning(Strict):
    """How a model thinks before it answers."""

    effort: Effort | None = Field(
        None, description="As far as the model's chat template knows it; [more](api.md#reasoning)."
    )
    summary: Annotated[Literal["auto", "concise", "detailed"] | None, _SHOWN_WHOLE] = None
    generate_summary: Annotated[Literal["auto", "concise", "detailed"] | None, _SHOWN_WHOLE] = None
    context: Annotated[Literal["auto", "current_turn"] | None, only("auto", "current_turn")] = Field(
        None, description="`auto`, `current_turn`: a thought is left out of later prompts."
    )
    mode: Annotated[Literal["standard"] | None, only("standard")] = Field(None, description="`standard`.")


class PromptParameters(Strict):
    """What a turn's prompt is made of."""

    model: str = Field(min_length=1, max_length=256, description="One of `GET /v1/models`.")
    input: Annotated[
        list[InputItem], Field(min_length=1, max_length=512, fail_fast=True), BeforeValidator(_as_messages)
    ]
    instructions: Text | None = None
    conversation: Annotated[ConversationReference | None, BeforeValidator(_as_reference)] = None
    previous_response_id: str | None = Field(None, max_length=128)
    tools: Tools | None = Field(
        None, description="[Functions](api.md#functions), which run at the caller's, and one `file_search`."
    )
    tool_choice: ToolChoice | None = Field(None, description="[What each form means](api.md#functions).")
    reasoning: Reasoning | None = None
    text: TextFormat | None = None
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="[`auto`](api.md#where-we-differ-on-purpose) unless asked otherwise."
    )
    parallel_tool_calls: bool | None = None


class CountInput(PromptParameters):
    """Body of ``POST /v1/responses/input_tokens``."""

    refused: ClassVar[Mapping[str, str]] = {
        "personality": "Models here have no presets of style. Say it in 'instructions'.",
    }

    def as_turn(self) -> "ResponseParameters":
        """The turn that is asked about, with the defaults of all that is not of its prompt."""
        return ResponseParameters.model_construct(**{name: getattr(self, name) for name in type(self).model_fields})


class CompactInput(Strict):
    """Body of ``POST /v1/responses/compact``."""

    model: str = Field(min_length=1, max_length=256, description="One of `GET /v1/models`: it sums up.")
    input: Annotated[
        list[InputItem] | None, Field(min_length=1, max_length=512, fail_fast=True), BeforeValidator(_as_messages)
    ] = None
    instructions: Text | None = None
    previous_response_id: str | None = Field(None, max_length=128)
    prompt_cache_key: str | None = Field(
        None, max_length=512, description="Requests with the same key go to the pod that has their common beginning."
    )
    prompt_cache_options: Annotated[PromptCacheOptions | None, Hint("See its fields.")] = None
    prompt_cache_retention: PromptCacheRetention = None
    image: Annotated[ImageOptions | None, Hint("See its fields.")] = None
    service_tier: ServiceTier = None

    def as_turn(self) -> "ResponseParameters":
        """A turn with the same before it."""
        return ResponseParameters.model_construct(
            model=self.model,
            input=self.input or [],
            instructions=self.instructions,
            previous_response_id=self.previous_response_id,
            prompt_cache_key=self.prompt_cache_key,
        )


class ResponseParameters(PromptParameters):
    """The parameters that HTTP and WebSocket share."""

    refused: ClassVar[Mapping[str, str]] = {
        "moderation": "Nothing here moderates. Leave it out.",
        "prompt": "Prompts are not stored here. Send 'instructions' and 'input'.",
    }

    context_management: Annotated[list[ContextManagement], Field(max_length=1, fail_fast=True)] | None = Field(
        None, description="[A summary](history.md#compaction-as-openai-has-it) in the place of what was said first."
    )
    store: bool | None = Field(None, description="`false`: forgotten five minutes after its end.")
    stream_options: StreamOptions | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=LARGEST_NUMBER)
    temperature: Temperature | None = None
    top_p: TopP | None = Field(None, description="0 leaves the likeliest token alone.")
    presence_penalty: Annotated[PresencePenalty | None, Extension("Open Responses")] = Field(
        None, description="As in chat completions."
    )
    frequency_penalty: Annotated[FrequencyPenalty | None, Extension("Open Responses")] = Field(
        None, description="As in chat completions."
    )
    top_logprobs: TopLogprobs | None = Field(
        None, description="Over 0 it brings `logprobs`, like `include` with `message.output_text.logprobs`."
    )
    metadata: Metadata | None = None
    include: Annotated[list[Included], Field(max_length=64, fail_fast=True)] | None = Field(
        None,
        description="`file_search_call.results`, `message.output_text.logprobs`, `reasoning.encrypted_content`; the "
        "others of OpenAI's pass, and no output here has what they would include.",
    )
    max_tool_calls: int | None = Field(
        None,
        ge=1,
        le=LARGEST_NUMBER,
        description="Of built-in tools, as OpenAI counts: the one search is always within.",
    )
    prompt_cache_key: str | None = Field(
        None, max_length=512, description="Requests with the same key go to the pod that has their common beginning."
    )
    prompt_cache_options: Annotated[CacheOptions | None, Hint("See its fields.")] = None
    prompt_cache_retention: PromptCacheRetention = None
    access_programs: Annotated[AccessPrograms | None, Hint("See its fields.")] = None
    image: Annotated[ImageOptions | None, Hint("See its fields.")] = None
    user: User = None
    safety_identifier: SafetyIdentifier = None
    service_tier: ServiceTier = None
    client_request_id: Annotated[str | None, Extension()] = Field(
        None, min_length=1, max_length=256, description="As the header `Idempotency-Key`."
    )

    def wants_results(self) -> bool:
        """Whether the response is to show what a file search finds."""
        return RESULTS in (self.include or [])

    def seals_reasoning(self) -> bool:
        """Whether the response is to show its reasoning sealed too."""
        return SEALED_REASONING in (self.include or [])

    def logprobs(self) -> int | None:
        """How many likeliest tokens are told beside each token of the answer; None where not even its own is."""
        if self.top_logprobs:
            return self.top_logprobs
        return 0 if LOGPROBS in (self.include or []) else None

    def effort(self) -> Effort | None:
        """How much the model shall think, if the caller says."""
        return None if self.reasoning is None else self.reasoning.effort

    def images(self) -> list[str]:
        """Where images are in the input."""
        return [
            f"input[{at}].{'content' if isinstance(item, InputMessage) else 'output'}[{place}]"
            for at, item in enumerate(self.input)
            if isinstance(item, InputMessage | FunctionCallOutput)
            for place, _ in item.images()
        ]

    def compact_threshold(self, context_tokens: int) -> int | None:
        """Over how many tokens of history the caller wants it summed up, if so."""
        if not self.context_management:
            return None
        return self.context_management[0].compact_threshold or context_tokens // 2

    def conversation_id(self) -> str | None:
        """The id of the conversation."""
        return None if self.conversation is None else self.conversation.id


class CreateResponse(ResponseParameters):
    """Body of ``POST /v1/responses``."""

    stream: bool | None = None
    background: bool | None = Field(None, description="The run goes on with nobody watching. Not with `store: false`.")
    background_options: Annotated[BackgroundOptions | None, Hint("See its fields.")] = None


class SocketCreate(ResponseParameters):
    """The client event ``response.create``. ``stream`` is implicit; ``background`` does not exist on a socket."""

    refused: ClassVar[Mapping[str, str]] = {
        **ResponseParameters.refused,
        "background": "It goes over HTTP: POST /v1/responses.",
        "background_options": "It goes over HTTP: POST /v1/responses.",
    }

    type: Literal["response.create"]
    stream: Annotated[Literal[True] | None, only(True)] = None
    generate: Annotated[Literal[True] | None, only(True)] = Field(None, description="`true`, which is the default.")
    stream_id: str | None = Field(
        None, min_length=1, max_length=128, description="[The lane](streaming.md) that the events go out in."
    )
