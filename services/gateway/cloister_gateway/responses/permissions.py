"""What a key must have for what its request asks: asking is a way to read, and a way to write what is read later."""

from cloister_gateway.identity.fence import check_items
from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.schemas import ResponseParameters

__all__ = ["check_permissions"]


def check_permissions(principal: Principal, parameters: ResponseParameters) -> None:
    """Raises `Forbidden`, with the field, for what the caller's scopes do not cover or its fence keeps out."""
    if parameters.conversation is not None:
        principal.require("conversations", param="conversation")
    if parameters.tools:
        principal.require("vector_stores", param="tools")
    if parameters.instructions is not None:
        principal.keep_fence("send 'instructions'", param="instructions")
    check_items(principal, parameters.input, "input")
    chosen = parameters.text.format if parameters.text else None
    if chosen is not None and chosen.type == "json_schema":
        # One that allows a single value puts any words into the model's mouth, and so into the history.
        principal.keep_fence("send a JSON schema, which can dictate an answer", param="text.format")
