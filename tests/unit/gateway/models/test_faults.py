"""What a pod's refusal says to the caller."""

import orjson
import pytest
from cloister_gateway.models.faults import fault_of


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("response_format.json_schema.schema", "response_format.json_schema.schema"),
        ("tools[3].function.parameters", "tools[3].function.parameters"),
        ("temperature", "temperature"),
        ("cache_salt", None),
        ("toolsmith", None),
        (5, None),
    ],
)
def test_the_place_is_told_where_it_is_in_a_field_that_callers_know(param: object, told: str | None) -> None:
    fault = fault_of("m", 400, orjson.dumps({"error": {"message": "No.", "param": param}}))
    assert (fault.param, fault.message) == (told, "No.")
