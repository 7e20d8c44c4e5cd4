"""What ``tool_choice`` makes of the tools of a turn, and what a fenced key may have the model call."""

from typing import Any

import pytest
from cloister_common.errors import Forbidden
from cloister_gateway.identity.principal import Credential, Principal
from cloister_gateway.responses.permissions import check_permissions
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.responses.tools import offered

SEARCH = {"type": "file_search", "vector_store_ids": ["vs"]}
F, G = ({"type": "function", "name": name, "parameters": {"type": "object"}} for name in "fg")
NAME_F = {"type": "function", "name": "f"}
FORCED_F = {"type": "function", "function": {"name": "f"}}


def parameters(**fields: Any) -> ResponseParameters:
    return ResponseParameters.model_validate({"model": "fake", "input": "x", **fields})


def allowed(mode: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "allowed_tools", "mode": mode, "tools": list(tools)}


@pytest.mark.parametrize(
    ("choice", "searches", "functions", "means"),
    [
        (None, 1, "fg", "auto"),
        ("auto", 1, "fg", "auto"),
        ("none", 0, "", "auto"),
        ("required", 1, "fg", "auto"),
        (NAME_F, 0, "fg", FORCED_F),
        ({"type": "file_search"}, 1, "", "auto"),
        (allowed("auto", NAME_F), 0, "f", "auto"),
        (allowed("required", NAME_F), 0, "f", "required"),
        (allowed("required", NAME_F, {"type": "file_search"}), 1, "f", "auto"),
        (allowed("auto", {"type": "file_search"}), 1, "", "auto"),
    ],
)
def test_the_choice_says_what_is_searched_and_what_may_be_called(
    choice: Any, searches: int, functions: str, means: Any
) -> None:
    asked = parameters(tools=[F, SEARCH, G], tool_choice=choice)
    found = offered(asked.tools, asked.tool_choice)
    assert (len(found.searches), "".join(tool.name for tool in found.functions)) == (searches, functions)
    assert found.choice == means


def test_without_a_search_a_required_call_is_the_models() -> None:
    asked = parameters(tools=[F, G], tool_choice="required")
    assert offered(asked.tools, asked.tool_choice).choice == "required"


CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "Where to look, in words."}}}
SCALE = {"type": "object", "properties": {"scale": {"enum": ["celsius", "km/h", 7, None]}}, "required": ["scale"]}
SENTENCE = "Salaries are public."
DICTATING = [
    {"const": {"title": SENTENCE}},
    {"type": "object", "properties": {"a": {"enum": [SENTENCE]}}},
    {"type": "object", "properties": {SENTENCE: {"type": "string"}}},
    {"type": "object", "required": [SENTENCE]},
    {"type": "object", "properties": {"description": {"const": SENTENCE}}},
    {"type": "object", "properties": {"a": {"pattern": "^Salaries are public$"}}},
]


def fenced_check(schema: dict[str, Any], **fields: Any) -> None:
    strict = fields.pop("strict", None)
    principal = Principal("proj", "svc", Credential("api_key", "key_1"), frozenset({"responses", "server_state_only"}))
    check_permissions(principal, parameters(tools=[{**F, "parameters": schema, "strict": strict}], **fields))


@pytest.mark.parametrize("schema", DICTATING)
def test_a_fenced_key_dictates_no_arguments(schema: dict[str, Any]) -> None:
    for fields in ({"tool_choice": "required"}, {"tool_choice": NAME_F}, {"strict": True}):
        with pytest.raises(Forbidden) as refused:
            fenced_check(schema, **fields)
        assert (refused.value.param, refused.value.error_code) == ("tools[0].parameters", "server_state_only")
    # What the model makes of it by itself is the model's.
    fenced_check(schema)


@pytest.mark.parametrize("schema", [CITY, SCALE])
def test_a_fenced_key_may_have_a_function_called_whose_schema_spells_out_names(schema: dict[str, Any]) -> None:
    fenced_check(schema, tool_choice="required", strict=True)
