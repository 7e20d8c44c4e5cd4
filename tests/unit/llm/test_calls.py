"""Answers that must be calls: what they are constrained to, and how they are read while they are written."""

import json
from typing import Any

import pytest
from cloister_common.errors import InvalidRequest
from cloister_common.wire.json_schema import check_json_schema
from cloister_llm.calls.reader import CallReader
from cloister_llm.calls.schema import MOST_CALLS, answer_schema, arguments_schema, is_forced

CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    "parameters",
    [None, {}, {"type": "object"}, {"type": "object", "properties": {}}, {"properties": {}, "required": []}],
)
def test_a_tool_without_parameters_is_called_with_nothing(parameters: Any) -> None:
    assert arguments_schema(parameters, "p") == NOTHING


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"city": {"type": "string"}}},
        {"type": ["object", "null"], "properties": {"city": {"type": "string"}}},
        {"properties": {"city": {"type": "string"}}, "anyOf": [CITY, {"required": ["land"]}]},
        {"$ref": "#/$defs/city", "$defs": {"city": CITY}},
        {"type": "object", "additionalProperties": {"type": "integer"}},
    ],
)
def test_arguments_are_an_object_whatever_the_schema_forgot(parameters: Any) -> None:
    assert arguments_schema(parameters, "p") == {
        **parameters,
        "type": "object",
        **({"additionalProperties": False} if "properties" in parameters and "anyOf" not in parameters else {}),
    }


@pytest.mark.parametrize("key", ["anyOf", "oneOf"])
def test_a_choice_of_objects_is_of_the_properties_that_each_names(key: str) -> None:
    free = {"type": "object", "additionalProperties": True}
    schema = arguments_schema({key: [CITY, {key: [CITY, free]}, {"type": "string"}, True]}, "p")
    closed = {**CITY, "additionalProperties": False}
    assert schema == {"type": "object", key: [closed, {key: [closed, free]}, {"type": "string"}, True]}


@pytest.mark.parametrize("open_to", [True, {"type": "integer"}, False])
def test_what_a_tool_says_of_other_properties_holds(open_to: Any) -> None:
    assert arguments_schema({**CITY, "additionalProperties": open_to}, "p")["additionalProperties"] == open_to
    assert arguments_schema({"type": "object", "additionalProperties": open_to}, "p")["additionalProperties"] == open_to


@pytest.mark.parametrize("kind", ["string", "array", ["string", "null"], 5])
def test_a_schema_of_something_else_than_objects_is_refused_by_name(kind: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        answer_schema([{"name": "f"}, {"name": "g", "parameters": {"type": kind}}], None, parallel=True)
    assert refused.value.param == "tools[1].function.parameters"


def test_a_tool_that_is_named_answers_its_arguments_alone() -> None:
    functions: list[dict[str, Any]] = [{"name": "look", "parameters": CITY}, {"name": "stop"}]
    assert answer_schema(functions, "stop", parallel=True) == NOTHING
    assert answer_schema(functions, "look", parallel=True) == {**CITY, "additionalProperties": False}


@pytest.mark.parametrize(("parallel", "most"), [(True, MOST_CALLS), (False, 1)])
def test_a_call_of_any_tool_is_a_list_that_ends(parallel: bool, most: int) -> None:
    schema = answer_schema([{"name": "look", "parameters": CITY}, {"name": "stop"}], None, parallel=parallel)
    assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 1, most)
    assert [call["properties"]["name"]["const"] for call in schema["items"]["anyOf"]] == ["look", "stop"]
    check_json_schema(schema)


def test_what_a_schema_refers_to_stays_its_own() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}, "leaf": {"$ref": "#/$defs/leaf"}}}
    functions = [
        {"name": "one", "parameters": {**tree, "$defs": {"leaf": {"type": "string"}}}},
        {"name": "two", "parameters": {**tree, "$defs": {"leaf": {"type": "integer"}}}},
    ]
    schema = answer_schema(functions, None, parallel=True)
    for at in ("0", "1"):
        found = schema["$defs"][at]["properties"]
        assert found == {"next": {"$ref": f"#/$defs/{at}"}, "leaf": {"$ref": f"#/$defs/{at}/$defs/leaf"}}
    check_json_schema(schema)


def test_names_and_values_that_look_like_references_are_none() -> None:
    properties = {"$ref": {"type": "string"}, "const": {"$ref": "#/x"}, "a": {"enum": [{"$ref": "#/x"}]}}
    schema = answer_schema([{"name": "f", "parameters": {"properties": properties}}], None, parallel=True)
    assert schema["$defs"]["0"]["properties"] == {**properties, "const": {"$ref": "#/$defs/0/x"}}


@pytest.mark.parametrize(
    ("choice", "forced"),
    [(None, False), ("auto", False), ("none", False), ("required", True), ({"type": "function"}, True)],
)
def test_which_choices_leave_nothing_but_a_call(choice: Any, forced: bool) -> None:
    assert is_forced(choice) is forced


CALLS = [
    {"name": "look", "arguments": {"city": 'Par"is } ] \\ {', "more": [{"name": "x", "arguments": {}}, []]}},
    {"name": 'st"op', "arguments": {}},
    {"name": "look", "arguments": {"arguments": {"name": "y"}}},
]


def read(text: str, size: int) -> list[tuple[str, str]]:
    """Name and arguments of each call, of a text that comes in pieces of ``size`` characters."""
    reader = CallReader()
    found: list[tuple[str, str]] = []
    for at in range(0, len(text), size):
        for piece in reader.feed(text[at : at + size]):
            if piece.name is not None:
                assert piece.index == len(found)
                found.append((piece.name, ""))
            name, arguments = found[piece.index]
            found[piece.index] = (name, arguments + piece.arguments)
    return found


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_calls_are_read_however_they_are_cut_into_pieces(size: int, indent: int | None) -> None:
    found = read(json.dumps(CALLS, indent=indent), size)
    assert [{"name": name, "arguments": json.loads(arguments)} for name, arguments in found] == CALLS


def test_a_call_that_is_cut_off_is_what_there_is_of_it() -> None:
    text = json.dumps(CALLS)
    whole = read(text, 1000)
    for end in range(len(text)):
        found = read(text[:end], 3)
        assert [name for name, _ in found] == [name for name, _ in whole[: len(found)]]
        assert all(then.startswith(now) for (_, now), (_, then) in zip(found, whole, strict=False))
