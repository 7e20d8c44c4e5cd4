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


def test_what_a_pod_does_not_serve_is_told_as_that() -> None:
    error = {"message": "Not served.", "param": "tools", "code": "unsupported_parameter"}
    fault = fault_of("m", 400, orjson.dumps({"error": error}))
    assert (fault.error_code, fault.param, fault.message) == ("unsupported_parameter", "tools", "Not served.")
    inner = fault_of("m", 400, orjson.dumps({"error": {**error, "param": "priority"}}))
    assert (inner.error_code, inner.param) == ("invalid_value", None)
