"""The structured part of a request to vLLM: the forms an answer may be asked for, and the schemas in them.

vLLM takes regular expressions, grammars, choices and structural tags as well, under several names. None of them is
ours, so none passes: what reaches the grammar compiler is a JSON schema within bounds, or nothing.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cloister_common.errors import InvalidRequest, UnsupportedParameter
from cloister_common.wire.json_schema import SchemaError, check_json_schema

from cloister_llm.calls.schema import answer_schema, arguments_schema, is_forced

__all__ = ["NamedSchema", "asks_for_structure", "check_structure", "compiled_schemas", "may_call"]

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
    _check_choice(body.get("tool_choice"))
    for param, schema in (*_of_format(body), *_of_tools(body)):
        try:
            check_json_schema(schema)
        except SchemaError as error:
            raise InvalidRequest(f"Invalid value for '{param}': {error}.", param=param, code="invalid_value") from error


def asks_for_structure(body: Mapping[str, Any]) -> bool:
    """Whether vLLM compiles a grammar for this checked body before it answers."""
    form = body.get("response_format") or {}
    return form.get("type", "text") != "text" or _must_call(body)


def may_call(body: Mapping[str, Any]) -> bool:
    """Whether the model of this checked body chooses between a call and text."""
    return bool(body.get("tools")) and body.get("tool_choice") in (None, "auto")


def compiled_schemas(body: Mapping[str, Any]) -> list[NamedSchema]:
    """The schemas of a checked body that become grammars: of a tool only where it must be called.

    Raises:
        InvalidRequest: A tool that must be called takes something else than an object.
    """
    return [*_of_format(body), *(_of_calls(body) if _must_call(body) else ())]


def _must_call(body: Mapping[str, Any]) -> bool:
    return bool(body.get("tools")) and is_forced(body.get("tool_choice"))


def _of_calls(body: Mapping[str, Any]) -> list[NamedSchema]:
    """What the arguments of each tool must fit, so that a fault has a place, and of a list of calls the whole."""
    functions = [tool["function"] for tool in body["tools"]]
    choice = body["tool_choice"]
    name = None if choice == "required" else (choice.get("function") or {}).get("name")
    schemas = []
    for index, function in enumerate(functions):
        param = f"tools[{index}].function.parameters"
        if name in {None, function.get("name")}:
            schemas.append(NamedSchema(param, arguments_schema(function.get("parameters"), param)))
    if choice == "required":
        parallel = body.get("parallel_tool_calls") is not False
        schemas.append(NamedSchema("tools", answer_schema(functions, None, parallel=parallel)))
    return schemas


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

    if not isinstance(tool["function"].get("name"), str):
        raise InvalidRequest(
            f"Invalid value for '{where}.function.name': must be text.", param=f"{where}.function.name"
        )


def _check_choice(choice: Any) -> None:
    if choice is None or choice in ("none", "auto", "required"):
        return
    _only(choice, _TOOL_FIELDS, "tool_choice")
    _only(choice.get("function"), frozenset({"name"}), "tool_choice.function")
    if choice.get("type") != "function" or not isinstance(choice["function"].get("name"), str):
        raise InvalidRequest(
            "Invalid value for 'tool_choice': must be 'none', 'auto', 'required' or a function by its name.",
            param="tool_choice",
        )


def _only(value: Any, fields: frozenset[str], where: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"Invalid value for '{where}': must be an object.", param=where)
    for name in value:
        if name not in fields:
            raise UnsupportedParameter(f"{where}.{name}")
