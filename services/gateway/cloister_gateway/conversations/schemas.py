"""What a caller may send to make or change a conversation."""

from typing import Annotated

from pydantic import Field

from cloister_gateway.wire.inputs import InputItem
from cloister_gateway.wire.strict import Metadata, Strict

__all__ = ["CreateConversation", "CreateItems", "UpdateConversation"]

Items = Annotated[list[InputItem], Field(max_length=20, fail_fast=True)]


class CreateConversation(Strict):
    """Body of ``POST /v1/conversations``."""

    items: Items | None = None
    metadata: Metadata | None = None


class UpdateConversation(Strict):
    """Body of ``POST /v1/conversations/{id}``."""

    metadata: Metadata | None


class CreateItems(Strict):
    """Body of ``POST /v1/conversations/{id}/items``."""

    items: Annotated[Items, Field(min_length=1)]
