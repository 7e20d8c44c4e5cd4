"""What a key must have for what its request asks: asking is a way to read, and a way to write what is read later."""

import re
from typing import Any

from cloister_gateway.identity.fence import check_items
from cloister_gateway.identity.principal import Principal
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.responses.tools import FileSearchTool, FunctionTool, offered

__all__ = ["check_permissions"]


def check_permissions(principal: Principal, parameters: ResponseParameters) -> None:
    """Raises `Forbidden`, with the field, for what the caller's scopes do not cover or its fence keeps out."""
    if parameters.conversation is not None:
        principal.require("conversations", param="conversation")
    tools = parameters.tools or []
    if any(isinstance(tool, FileSearchTool) for tool in tools):
        principal.require("vector_stores", param="tools")
    if principal.server_state_only:
        forced = offered(tools, parameters.tool_choice).forced
        for place, tool in enumerate(tools):
            if isinstance(tool, FunctionTool) and (forced or tool.strict) and _dictates(tool.parameters):
                # As of a JSON schema, below; what is spelt out in words of this kind is the name of a thing.
                principal.keep_fence(
                    "have the model call a function whose parameters spell out more than names: letters, digits, "
                    "'_', '-' and '.', 64 at most",
                    param=f"tools[{place}].parameters",
                )
    if parameters.instructions is not None:
        principal.keep_fence("send 'instructions'", param="instructions")
    check_items(principal, parameters.input, "input")
    chosen = parameters.text.format if parameters.text else None
    if chosen is not None and chosen.type == "json_schema":
        # One that allows a single value puts any words into the model's mouth, and so into the history.
        principal.keep_fence("send a JSON schema, which can dictate an answer", param="text.format")


_WORD = re.compile(r"[A-Za-z0-9_.$#/-]{1,64}")
"""A name, a keyword, or where a ``$ref`` leads."""
_NOT_SPELT_OUT = frozenset({"description", "title", "$comment", "$schema", "$id", "default"})
_VALUES = frozenset({"const", "enum"})


def _dictates(schema: Any, *, value: bool = False) -> bool:
    """Whether arguments that follow the schema, or the ``value``, hold words that its author chose.

    (The schema is within the bounds of `cloister_common.wire.json_schema`, of depth too.)
    """
    if isinstance(schema, str):
        return not _WORD.fullmatch(schema)
    if isinstance(schema, list):
        return any(_dictates(one, value=value) for one in schema)
    if not isinstance(schema, dict):
        return False
    return any(
        not _WORD.fullmatch(name)
        or (
            _dictates(inner, value=value or name in _VALUES)
            if value or name not in _NOT_SPELT_OUT or not isinstance(inner, str)
            else False
        )
        for name, inner in schema.items()
    )
