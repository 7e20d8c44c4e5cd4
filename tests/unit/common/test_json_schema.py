"""What a JSON schema for structured answers may be."""

import contextlib
import json
import sys
from typing import Any

import pytest
from cloister_common.wire.json_schema import SchemaError, check_json_schema

TEXT = {"type": "string"}


def check(schema: Any) -> None:
    """Checks it as it comes off the wire: no two places of it are one object."""
    check_json_schema(json.loads(json.dumps(schema)))


def of(properties: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **more}


def closed(count: int) -> dict[str, Any]:
    return of(dict.fromkeys(numbered(count), TEXT), required=numbered(count))


def nested(levels: int) -> Any:
    schema: Any = TEXT
    for _ in range(levels):
        schema = of({"inner": schema})
    return schema


def lists(levels: int) -> Any:
    schema: Any = TEXT
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def numbered(count: int, width: int = 1) -> list[str]:
    return [str(number).rjust(width, "0") for number in range(count)]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        closed(5_000),
        of({name: of(dict.fromkeys(numbered(300), TEXT)) for name in numbered(16)}),
        nested(10),
        lists(50),
        of({"a": {"enum": numbered(250, 400)}}),
        of({"a": {"enum": numbered(1_000, 15)}}),
        {"const": "x" * 120_000},
        {"description": "x" * 500_000},
        of({"next": {"$ref": "#"}}),
        of({"child": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, **{"$defs": {"node": nested(10)}}),
        {"$defs": {"a": of({"b": {"$ref": "#/$defs/b"}}), "b": of({"a": {"$ref": "#/$defs/a"}})}, "$ref": "#/$defs/a"},
        {"$defs": {"a/b~c d": TEXT}, "anyOf": [{"$ref": "#/$defs/a~1b~0c%20d"}, {"$ref": "#/$defs/a~1b~0c%20d"}]},
        of({"a": True, "b": False, "c": {"items": True}}, additionalProperties=False),
        {"type": "string", "pattern": r"^\p{L}+$"},
        of({"enum": TEXT, "$ref": TEXT, "properties": TEXT}),
        {"enum": [{"$ref": 5, "properties": 5}]},
        {"type": "array", "items": TEXT, "minItems": 10_000},
    ],
)
def test_what_openai_takes_is_taken(schema: Any) -> None:
    check(schema)


@pytest.mark.parametrize(
    ("schema", "place", "bound"),
    [
        (of(dict.fromkeys(numbered(5001), TEXT)), "#/properties", "5,000 properties"),
        (
            of({name: closed(99) for name in numbered(51)}),
            "/properties",
            "5,000 properties",
        ),
        (nested(11), "#" + "/properties/inner" * 10, "10 are allowed"),
        (lists(60), "#/items", "56 are allowed"),
        (of({"a": {"enum": numbered(1_001)}}), "#/properties/a/enum", "1,000 values of 'enum'"),
        (
            of({"a": {"enum": numbered(600)}, "b": {"anyOf": [{"enum": numbered(600)}]}}),
            "/enum",
            "1,000 values of 'enum'",
        ),
        (of({"a": {"enum": numbered(251, 60)}}), "#/properties/a/enum", "may have 15,000"),
        (of({"a": {"enum": numbered(2, 60_001)}}), "#/properties/a/enum", "120,000 characters"),
        ({"const": ["x" * 120_001]}, "#/const", "120,000 characters"),
        (of({"x" * 120_001: TEXT}), "#/properties", "120,000 characters"),
        ({"$defs": {"x" * 120_001: TEXT}}, "#/$defs", "120,000 characters"),
        ({"description": "x" * 1_000_001}, "#/description", "1,000,000 characters"),
        ({"examples": [0] * 50_001}, "#/examples", "50,000 JSON values"),
        ({"anyOf": [{}] * 10_001}, "#/anyOf/", "10,000 schemas"),
        ({"anyOf": [TEXT] * 301}, "at '#'", "300 are allowed"),
        (of(dict.fromkeys(numbered(301), TEXT)), "at '#'", "300 are allowed"),
        ({"anyOf": [of(dict.fromkeys(numbered(61), TEXT)) for _ in range(5)]}, "at '#'", "300 are allowed"),
        ({"type": "array", "items": TEXT, "minItems": 1_000_000}, "#/minItems", "10,000"),
        ({"items": {"maxItems": 1e300}}, "#/items/maxItems", "10,000"),
        ({"type": "string", "maxLength": 10**9}, "#/maxLength", "1,000,000"),
        ({"properties": {"a": 5}}, "#/properties/a", "true or false"),
        ({"properties": []}, "#/properties", "object of schemas"),
        ({"anyOf": {}}, "#/anyOf", "list of schemas"),
        ({"items": None}, "#/items", "true or false"),
    ],
)
def test_what_is_over_a_bound_is_refused_with_its_place_and_the_bound(schema: Any, place: str, bound: str) -> None:
    with pytest.raises(SchemaError) as refused:
        check(schema)
    assert place in str(refused.value)
    assert bound in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"anyOf": [TEXT, {"$ref": "#"}]},
        {"allOf": [{"$ref": "#/allOf/0"}]},
        of({"a": {"oneOf": [{"not": {"$ref": "#/properties/a"}}]}}),
        of({"a": {"$ref": "#/$defs/a"}}, **{"$defs": {"a": {"if": {"$ref": "#/$defs/a"}, "then": TEXT}}}),
        {"components": {"a": {"$ref": "#/components/a"}}, "items": {"$ref": "#/components/a"}},
    ],
)
def test_a_schema_that_leads_back_to_itself_without_a_value_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaError, match="leads back to itself"):
        check(schema)


@pytest.mark.parametrize("reference", ["#/$defs/none", "#/required/x", "#/anyOf/7", "http://a/b", "#name", "", 5, None])
def test_a_reference_that_leads_nowhere_is_refused(reference: Any) -> None:
    with pytest.raises(SchemaError, match=r"#/properties/a/\$ref"):
        check(of({"a": {"$ref": reference}}, required=["a"], anyOf=[{}]))


def test_bounds_hold_where_references_lead_outside_the_known_keywords() -> None:
    schema = of({"a": {"$ref": "#/components/a"}}, components={"a": {"enum": numbered(1_001)}})
    with pytest.raises(SchemaError, match="1,000 values of 'enum'"):
        check(schema)


@pytest.mark.parametrize(
    "schema",
    [
        of({"a": {"enum": [f"value number {number} of many" for number in range(100_000)]}}),
        of({f"{'x' * 20_000}{number}": nested(9) for number in range(6)}),
        {"$defs": {str(number): {"$ref": f"#/$defs/{number + 1}"} for number in range(9_000)} | {"9000": TEXT}},
        {"$defs": {"a": TEXT}, "anyOf": [{"$ref": "#/$defs/a"}] * 9_990},
    ],
)
def test_the_largest_schemas_are_judged_in_work_that_grows_with_their_size(schema: Any) -> None:
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        with contextlib.suppress(SchemaError):
            check(schema)
    finally:
        sys.setprofile(None)
    assert calls < 200 * values_of(schema)


def values_of(value: Any) -> int:
    """How many JSON values, names included."""
    if isinstance(value, dict):
        return 1 + sum(1 + values_of(one) for one in value.values())
    return 1 + sum(map(values_of, value)) if isinstance(value, list) else 1
