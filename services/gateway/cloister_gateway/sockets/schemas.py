"""What a client may send over a socket. ``response.create`` is OpenAI's; the others are ours."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from cloister_gateway.responses.schemas import SocketCreate
from cloister_gateway.wire.strict import LARGEST_NUMBER, Strict

__all__ = ["CLIENT_EVENT", "Cancel", "ClientEvent", "SubscribeConversation", "SubscribeResponse"]

Id = Annotated[str, Field(min_length=1, max_length=128)]


class SubscribeResponse(Strict):
    """Follow a response from an event on: after a lost connection, or on a second device."""

    type: Literal["response.subscribe"]
    response_id: Id
    starting_after: int | None = Field(None, ge=0, le=LARGEST_NUMBER)
    stream_id: Id | None = None


class SubscribeConversation(Strict):
    """Follow every response of a conversation from now on, whoever asked for it."""

    type: Literal["conversation.subscribe"]
    conversation_id: Id
    stream_id: Id | None = None


class Cancel(Strict):
    """Stop a response. Its last event says that it was cancelled."""

    type: Literal["response.cancel"]
    response_id: Id | None = Field(None, description="Without one: the response this socket asked for last.")


ClientEvent = Annotated[SocketCreate | SubscribeResponse | SubscribeConversation | Cancel, Field(discriminator="type")]
CLIENT_EVENT: TypeAdapter[ClientEvent] = TypeAdapter(ClientEvent)
