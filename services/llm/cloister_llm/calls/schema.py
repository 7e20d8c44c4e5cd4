"""The schema of an answer that must be a call: what vLLM compiles, and what the guard tries before.

vLLM makes one of its own, which lets a tool without ``type`` be called with a bare string, one without parameters with
anything, and moves definitions away from what refers to them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cloister_common.errors import InvalidRequest

__all__ = ["MOST_CALLS", "answer_schema", "arguments_schema", "is_forced"]

MOST_CALLS = 8
"""Calls in one answer where several are allowed: small models never end a list by themselves."""

_NAMES = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose keys are names, not keywords."""

_VALUES = frozenset({"const", "enum", "default", "examples"})
"""Keywords that hold values, in which ``$ref`` is a key like any other."""

_SAYS_NOTHING = frozenset({"type", "properties", "required", "title", "description", "$schema", "strict"})
_OPEN = frozenset({"additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames", "$ref"})
_COMPOSED = frozenset({"anyOf", "oneOf", "allOf", "not", "if", "then", "else", "dependentSchemas", "const", "enum"})
_CHOICES = ("anyOf", "oneOf")
_DESCRIBES = frozenset({"type", "title", "description", "$schema", "$defs", "definitions", "strict"})


def is_forced(choice: Any) -> bool:
    """Whether a ``tool_choice`` leaves the model nothing but a call."""
    return choice == "required" or isinstance(choice, Mapping)


def arguments_schema(parameters: Any, where: str) -> dict[str, Any]:
    """What the arguments of one call must fit: always a schema of an object, and no wider than ``parameters``.

    Properties that the tool does not name are left out where it does not say that there may be others, so that one
    without parameters is called with ``{}``.

    Raises:
        InvalidRequest: ``parameters`` is a schema of something else than objects.
    """
    schema = dict(parameters or {})
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise InvalidRequest(
            f"Invalid value for '{where}': the schema's type must be 'object'.", param=where, code="invalid_value"
        )
    schema["type"] = "object"
    if not schema.get("properties") and schema.keys() <= _SAYS_NOTHING:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return _closed(schema)


def answer_schema(functions: Sequence[Mapping[str, Any]], name: str | None, *, parallel: bool) -> dict[str, Any]:
    """The schema of the whole answer: the arguments of the tool ``name``, or a list of calls if it is None.

    Args:
        functions: The tools' ``function`` objects.
        name: The tool that must be called, if only one may be; it is among them.
        parallel: Whether there may be more calls than one.

    Raises:
        InvalidRequest: As `arguments_schema`.
    """
    of_arguments = [
        arguments_schema(function.get("parameters"), f"tools[{at}].function.parameters")
        for at, function in enumerate(functions)
    ]
    if name is not None:
        return next(
            schema for function, schema in zip(functions, of_arguments, strict=True) if function["name"] == name
        )
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": MOST_CALLS if parallel else 1,
        "items": {"anyOf": [_call(function["name"], at) for at, function in enumerate(functions)]},
        "$defs": {f"{at}": _rebased(schema, f"#/$defs/{at}") for at, schema in enumerate(of_arguments)},
    }


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` without properties that it does not name, or each of its choices so where it is nothing but these.

    A small model that may add properties of its own goes on adding them.
    """
    if "properties" in schema and schema.keys().isdisjoint(_OPEN | _COMPOSED):
        return {**schema, "additionalProperties": False}
    for key in _CHOICES:
        choices = schema.get(key)
        if isinstance(choices, list) and schema.keys() <= _DESCRIBES | {key}:
            return {**schema, key: [_closed(one) if isinstance(one, dict) else one for one in choices]}
    return schema


def _call(name: str, at: int) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": {"$ref": f"#/$defs/{at}"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _rebased(value: Any, base: str, *, names: bool = False) -> Any:
    """A schema that now stands at ``base``: what referred to its own places still does."""
    if isinstance(value, list):
        return [_rebased(one, base) for one in value]
    if not isinstance(value, dict):
        return value
    rebased = {}
    for key, inner in value.items():
        if names:
            rebased[key] = _rebased(inner, base)
        elif key == "$ref" and isinstance(inner, str):
            rebased[key] = base + inner.removeprefix("#")
        elif key in _VALUES:
            rebased[key] = inner
        else:
            rebased[key] = _rebased(inner, base, names=key in _NAMES)
    return rebased
