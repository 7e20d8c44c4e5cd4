"""The closed set of words a chat template may see as they are.

Templates look up and compare some strings (``message.role``, ``tool.function.name``, ``parameter.type == "array"``).
Those are words of OpenAI's chat schema and of JSON Schema, chosen from the lists below; a caller can pick among them
but cannot write one. Every other string is content.
"""

from typing import Any

__all__ = ["ROLES", "SCHEMA_KEYS", "SCHEMA_TYPES", "TEMPLATE_WORDS", "is_word"]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
"""Roles of OpenAI's chat messages. A role is template input: an invented one would be written between the template's
own control tokens."""

SCHEMA_TYPES = frozenset(
    {"array", "boolean", "function", "integer", "null", "number", "object", "string", "text", "refusal", "image"}
)
"""Values of a ``type`` key: JSON Schema's types, and the types of tools and of content parts. (A part of type ``image``
is vLLM's word for one that has an image: no part of a request has it, see `cloister_llm.guard.rules`.)"""

SCHEMA_KEYS = frozenset(
    {
        # A chat message, its parts and its tool calls
        *("role", "content", "name", "type", "text", "refusal", "reasoning", "reasoning_content", "thinking"),
        *("tool_calls", "tool_call_id", "tools", "id", "index", "function", "arguments"),
        # A tool
        *("description", "parameters", "strict", "return", "response"),
        # JSON Schema
        *("$ref", "$defs", "$schema", "$id", "definitions", "properties", "required", "items", "prefixItems", "enum"),
        *("const", "default", "examples", "title", "format", "pattern", "nullable", "deprecated", "readOnly"),
        *("additionalProperties", "patternProperties", "propertyNames", "minProperties", "maxProperties"),
        *("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "minimum", "maximum", "exclusiveMinimum"),
        *("exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
    }
)
"""Keys a template may look up by name."""

TEMPLATE_WORDS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
"""String values of template variables (``reasoning_effort``)."""


def is_word(value: Any, words: frozenset[str]) -> bool:
    """Whether ``value``, which may be anything JSON can hold, is one of ``words``."""
    return isinstance(value, str) and value in words
