"""What a caller may send to create a response. Anything else is refused by name, never ignored.

The *answers* are the ``openai`` package's own types; requests are ours, because what we accept is narrower.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

__all__ = [
    "ConversationReference",
    "CreateResponse",
    "FileSearchTool",
    "InputMessage",
    "InputText",
    "Metadata",
    "SocketCreate",
    "TextFormat",
]

MAX_INPUT_CHARACTERS = 1_000_000
"""A bound on one text. What fits into the model is decided later, by tokens; this keeps absurd bodies out."""

Text = Annotated[str, StringConstraints(max_length=MAX_INPUT_CHARACTERS)]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]


class Strict(BaseModel):
    """Base of all request models: unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class InputText(Strict):
    """A text part of an input message. ``output_text`` is what assistant messages of earlier turns carry."""

    type: Literal["input_text", "output_text"] = "input_text"
    text: Text
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Strict):
    """A message of the input."""

    type: Literal["message"] = "message"
    id: str | None = Field(None, max_length=128)
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[InputText], Field(min_length=1, max_length=64)]

    def text(self) -> str:
        """The message's text: its parts joined as they stand."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ConversationReference(Strict):
    """``conversation: {"id": …}``."""

    id: str = Field(min_length=1, max_length=128)


class RankingOptions(Strict):
    """How search results are scored."""

    ranker: Literal["auto", "default-2024-11-15"] = "auto"
    score_threshold: float | None = Field(None, ge=0, le=1)


class FileSearchTool(Strict):
    """Search in vector stores. The server always searches; the model is not asked whether to."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[str], Field(min_length=1, max_length=16)]
    max_num_results: int | None = Field(None, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: RankingOptions | None = None


class TextFormatText(Strict):
    """Plain text."""

    type: Literal["text"]


class TextFormatJson(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class TextFormatSchema(Strict):
    """JSON that follows a schema; vLLM enforces it while it samples."""

    type: Literal["json_schema"]
    name: str = Field(min_length=1, max_length=64)
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormat(Strict):
    """``text: {"format": …}``."""

    format: Annotated[TextFormatText | TextFormatJson | TextFormatSchema, Field(discriminator="type")] | None = None


class StreamOptions(Strict):
    """OpenAI adds random padding unless told not to; we send none, so only ``false`` is true here."""

    include_obfuscation: Literal[False] | None = None


class ResponseParameters(Strict):
    """The parameters that HTTP and WebSocket share."""

    model: str = Field(min_length=1, max_length=256)
    input: Text | Annotated[list[InputMessage], Field(min_length=1, max_length=512)]
    instructions: Text | None = None
    conversation: str | ConversationReference | None = None
    previous_response_id: str | None = Field(None, max_length=128)
    store: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    metadata: Metadata | None = None
    tools: Annotated[list[FileSearchTool], Field(max_length=1)] | None = None
    tool_choice: Literal["auto", "none", "required"] | None = None
    include: list[Literal["file_search_call.results"]] | None = None
    text: TextFormat | None = None
    truncation: Literal["auto", "disabled"] | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = Field(None, max_length=512)
    safety_identifier: str | None = Field(None, max_length=512)
    service_tier: Literal["auto", "default"] | None = None
    client_request_id: str | None = Field(None, min_length=1, max_length=256)

    @field_validator("input")
    @classmethod
    def _not_empty(cls, value: str | list[InputMessage]) -> str | list[InputMessage]:
        if isinstance(value, str) and not value:
            raise ValueError("must not be empty")
        return value

    def messages(self) -> list[InputMessage]:
        """The input as messages."""
        if isinstance(self.input, str):
            return [InputMessage(role="user", content=self.input)]
        return self.input

    def conversation_id(self) -> str | None:
        """The id of the conversation, in either of the two forms."""
        if isinstance(self.conversation, ConversationReference):
            return self.conversation.id
        return self.conversation


class CreateResponse(ResponseParameters):
    """Body of ``POST /v1/responses``."""

    stream: bool | None = None
    background: bool | None = None


class SocketCreate(ResponseParameters):
    """The client event ``response.create``. ``stream`` is implicit; ``background`` does not exist on a socket."""

    type: Literal["response.create"]
    stream: Literal[True] | None = None
    stream_id: str | None = Field(None, min_length=1, max_length=128)
