"""The structured part of a request to vLLM: the forms an answer may be asked for, and the schemas in them.

vLLM takes regular expressions, grammars, choices and structural tags as well, under several names. None of them is
ours, so none passes: what reaches the grammar compiler is a JSON schema within bounds, or nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.wire.json_schema import SchemaError, check_json_schema

__all__ = ["NamedSchema", "asks_for_structure", "check_structure", "compiled_schemas"]

_FORMATS = ("text", "json_object", "json_schema")
_FORMAT_FIELDS = frozenset({"type", "json_schema"})
_SCHEMA_FIELDS = frozenset({"name", "description", "schema", "strict"})
_TOOL_FIELDS = frozenset({"type", "function"})
_FUNCTION_FIELDS = frozenset({"name", "description", "parameters", "strict"})


class NamedSchema(NamedTuple):
    """A schema and the field it stands in."""

    param: str
    schema: Any


def check_structure(body: Mapping[str, Any]) -> None:
    """Checks ``response_format`` and ``tools`` of a decoded body.

    Raises:
        UnsupportedParameter: Another kind of format or tool, or a field that is not in the lists, by its name.
        InvalidRequest: A schema over a bound, with its place.
    """
    _check_format(body.get("response_format"))
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise InvalidRequest("Invalid value for 'tools': must be a list.", param="tools")
    for index, tool in enumerate(tools or ()):
        _check_tool(tool, f"tools[{index}]")
    for param, schema in (*_of_format(body), *_of_tools(body)):
        try:
            check_json_schema(schema)
        except SchemaError as error:
            raise InvalidRequest(f"Invalid value for '{param}': {error}.", param=param, code="invalid_value") from error


def asks_for_structure(body: Mapping[str, Any]) -> bool:
    """Whether vLLM compiles a grammar for this checked body before it answers."""
    form = body.get("response_format") or {}
    return form.get("type", "text") != "text" or _must_call(body)


def compiled_schemas(body: Mapping[str, Any]) -> list[NamedSchema]:
    """The schemas of a checked body that become grammars: of a tool only where it must be called."""
    return [*_of_format(body), *(_of_tools(body) if _must_call(body) else ())]


def _must_call(body: Mapping[str, Any]) -> bool:
    choice = body.get("tool_choice")
    return choice == "required" or isinstance(choice, Mapping)


def _of_format(body: Mapping[str, Any]) -> list[NamedSchema]:
    declared = (body.get("response_format") or {}).get("json_schema") or {}
    return [NamedSchema("response_format.json_schema.schema", declared["schema"])] if "schema" in declared else []


def _of_tools(body: Mapping[str, Any]) -> list[NamedSchema]:
    functions = [tool["function"] for tool in body.get("tools") or ()]
    return [
        NamedSchema(f"tools[{index}].function.parameters", function["parameters"])
        for index, function in enumerate(functions)
        if function.get("parameters") is not None
    ]


def _check_format(form: Any) -> None:
    if form is None:
        return
    _only(form, _FORMAT_FIELDS, "response_format")
    if form.get("type") not in _FORMATS:
        raise UnsupportedParameter(
            "response_format.type", f"'response_format.type' must be one of {', '.join(_FORMATS)}."
        )
    if (form["type"] == "json_schema") != (form.get("json_schema") is not None):
        raise InvalidRequest(
            "'response_format.json_schema' goes with type 'json_schema', and only with it.",
            param="response_format.json_schema",
        )
    if form.get("json_schema") is not None:
        _only(form["json_schema"], _SCHEMA_FIELDS, "response_format.json_schema")


def _check_tool(tool: Any, where: str) -> None:
    _only(tool, _TOOL_FIELDS, where)
    if tool.get("type") != "function":
        raise UnsupportedParameter(f"{where}.type", f"'{where}.type' must be 'function'.")
    _only(tool.get("function"), _FUNCTION_FIELDS, f"{where}.function")


def _only(value: Any, fields: frozenset[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"Invalid value for '{where}': must be an object.", param=where)
    for name in value:
        if name not in fields:
            raise UnsupportedParameter(f"{where}.{name}")
