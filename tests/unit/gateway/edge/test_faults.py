"""A pod's refusals in the caller's words."""

import orjson
import pytest
from cloister_common.errors import InvalidRequest, TooManyRequests, Unavailable, UpstreamFailed
from cloister_gateway.models.faults import fault_of


def refused(message: str, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}})


def test_context_length_has_openais_code() -> None:
    message = "This model's maximum context length is 2048 tokens. However, your prompt contains 3000 input tokens"
    fault = fault_of("m", 400, refused(message, "input_tokens"))
    assert isinstance(fault, InvalidRequest)
    assert (fault.error_code, fault.param, fault.message) == ("context_length_exceeded", "messages", message)


def test_an_answer_longer_than_the_context_is_the_fault_of_its_own_parameter() -> None:
    fault = fault_of("m", 400, refused("max_tokens=9 cannot be greater than max_model_len=8", "max_tokens"))
    assert (fault.error_code, fault.param) == ("context_length_exceeded", "max_tokens")


@pytest.mark.parametrize("option", ["--tool-call-parser", "--enable-auto-tool-choice and --tool-call-parser"])
def test_a_model_without_a_parser_for_tool_calls_does_not_support_tools(option: str) -> None:
    fault = fault_of("m", 400, refused(f'"auto" tool choice requires {option} to be set'))
    assert (fault.error_code, fault.param) == ("unsupported_parameter", "tools")
    assert "--" not in fault.message


def test_wrong_parameter_keeps_the_name_a_caller_knows_and_no_other() -> None:
    assert fault_of("m", 400, refused("wrong", "tools")).param == "tools"
    assert fault_of("m", 400, refused("wrong", "sampling_params.guided")).param is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, UpstreamFailed), (404, UpstreamFailed), (429, TooManyRequests), (500, UpstreamFailed), (503, Unavailable)],
)
def test_what_goes_wrong_inside_stays_inside(status: int, kind: type[Exception]) -> None:
    fault = fault_of("m", status, refused("Traceback: /secret/path"))
    assert type(fault) is kind
    assert "secret" not in fault.message


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}'])
def test_refusal_without_a_proper_body_is_still_a_400(body: bytes) -> None:
    assert isinstance(fault_of("m", 400, body), InvalidRequest)
