"""What a caller may send to create a response. Anything else is refused by name, never ignored.

The *answers* are the ``openai`` package's own types; requests are ours, because what we accept is narrower.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from cloister_gateway.models.reasoning import Effort
from cloister_gateway.responses.tools import ToolChoice, Tools
from cloister_gateway.wire.inputs import InputItem
from cloister_gateway.wire.strict import LARGEST_NUMBER, MAX_INPUT_CHARACTERS, Metadata, Schema, Strict, Text, only

__all__ = [
    "ConversationReference",
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

    nullable: ClassVar[frozenset[str]] = frozenset({"name", "schema"})

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

    nullable: ClassVar[frozenset[str]] = frozenset({"verbosity"})

    format: Format | None = None


class StreamOptions(Strict):
    """OpenAI adds random padding unless told not to; we send none, so only ``false`` is true here."""

    include_obfuscation: Annotated[Literal[False] | None, only(False)] = None


class Reasoning(Strict):
    """``reasoning``. Its text is shown whole, so a summary of it is a hint that nothing need be made of."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Annotated[Literal["auto", "current_turn"] | None, only("auto", "current_turn")] = None
    mode: Annotated[Literal["standard"] | None, only("standard")] = None


Included = Literal["file_search_call.results", "reasoning.encrypted_content"]
Result = Annotated[Included, only("file_search_call.results", "reasoning.encrypted_content")]


class ResponseParameters(Strict):
    """The parameters that HTTP and WebSocket share."""

    nullable: ClassVar[frozenset[str]] = frozenset(
        {
            "access_programs",
            "background_options",
            "context_management",
            "image",
            "moderation",
            "prompt",
            "prompt_cache_options",
            "prompt_cache_retention",
            "top_logprobs",
        }
    )

    model: str = Field(min_length=1, max_length=256)
    input: Annotated[
        list[InputItem], Field(min_length=1, max_length=512, fail_fast=True), BeforeValidator(_as_messages)
    ]
    instructions: Text | None = None
    conversation: Annotated[ConversationReference | None, BeforeValidator(_as_reference)] = None
    previous_response_id: str | None = Field(None, max_length=128)
    store: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=LARGEST_NUMBER)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    metadata: Metadata | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    include: Annotated[list[Result], Field(fail_fast=True)] | None = None
    reasoning: Reasoning | None = None
    text: TextFormat | None = None
    truncation: Literal["auto", "disabled"] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = Field(
        None,
        ge=1,
        le=LARGEST_NUMBER,
        description="Of built-in tools, as OpenAI counts: the one search is always within.",
    )
    user: str | None = Field(None, max_length=512)
    safety_identifier: str | None = Field(None, max_length=512)
    prompt_cache_key: str | None = Field(
        None, max_length=512, description="Requests with the same key go to the pod that has their common beginning."
    )
    service_tier: Annotated[Literal["auto", "default"] | None, only("auto", "default")] = None
    client_request_id: str | None = Field(None, min_length=1, max_length=256)

    def effort(self) -> Effort | None:
        """How much the model shall think, if the caller says."""
        return None if self.reasoning is None else self.reasoning.effort

    def conversation_id(self) -> str | None:
        """The id of the conversation."""
        return None if self.conversation is None else self.conversation.id


class CreateResponse(ResponseParameters):
    """Body of ``POST /v1/responses``."""

    stream: bool | None = None
    background: bool | None = None


class SocketCreate(ResponseParameters):
    """The client event ``response.create``. ``stream`` is implicit; ``background`` does not exist on a socket."""

    nullable: ClassVar[frozenset[str]] = ResponseParameters.nullable | {"background"}

    type: Literal["response.create"]
    stream: Annotated[Literal[True] | None, only(True)] = None
    generate: Annotated[Literal[True] | None, only(True)] = None
    stream_id: str | None = Field(None, min_length=1, max_length=128)
