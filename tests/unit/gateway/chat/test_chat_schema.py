"""Which chat requests are accepted, and how the rest is refused."""

from contextlib import nullcontext
from typing import Any

import orjson
import pytest
from cloister_common.app import validation_error
from cloister_common.errors import InvalidRequest
from cloister_common.wire.json_schema import MOST_JSON_LEVELS
from cloister_gateway.chat.schemas import ChatRequest
from pydantic import ValidationError

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "look"}}


def refusal(**fields: Any) -> InvalidRequest:
    """The error that a request with ``fields`` gets."""
    body = {"model": "fake", "messages": [USER], **fields}
    try:
        ChatRequest.model_validate(body).check()
    except ValidationError as error:
        return validation_error(error.errors())
    except InvalidRequest as error:
        return error
    raise AssertionError("the request was accepted")


def chosen(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [chosen(name) for name in names]}}


def nested(levels: int) -> dict[str, Any]:
    """An object that deep."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "name",
    [
        "priority", "cache_salt", "chat_template", "chat_template_kwargs", "prompt_token_ids", "echo",
        "continue_final_message", "add_generation_prompt", "add_special_tokens", "documents",
        "stop_token_ids", "guided_json", "structured_outputs", "functions", "function_call", "audio", "moderation",
        "web_search_options",
    ],
)  # fmt: skip
def test_parameter_that_is_not_served_is_refused_by_name(name: str) -> None:
    error = refusal(**{name: 1})
    assert (error.error_code, error.param) == ("unsupported_parameter", name)
    assert error.message.startswith(f"Unsupported parameter: '{name}'. ")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"verbosity": "low"}, "verbosity"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
    ],
)
def test_value_that_would_change_the_answer_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refusal(**fields)
    assert (error.error_code, error.param) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[1].content[0].image_url.url",
        ),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[1].content[0].image_url"),
        ({"role": "system", "content": [{"type": "image_url"}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "cache": 1}]}, "messages[1].content[0].cache"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": []}, "messages[1].content"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": "a", "name": 5}, "messages[1].name"),
        ({"role": "function", "content": "a"}, "messages[1].role"),
        ({"role": "user", "content": "a", "tool_calls": []}, "messages[1].tool_calls"),
        ({"role": "tool", "content": "a"}, "messages[1].tool_call_id"),
        ({"role": "user", "content": "a", "tool_call_id": "x"}, "messages[1].tool_call_id"),
        ({"role": "assistant"}, "messages[1].content"),
    ],
)
def test_wrong_message_is_named_by_its_place(message: dict[str, Any], param: str) -> None:
    assert refusal(messages=[USER, message]).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"n": 9}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"tool_choice": "maybe", "tools": [TOOL]}, "tool_choice"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": {"type": "custom"}, "tools": [TOOL]}, "tool_choice.type"),
        ({"tool_choice": chosen("stare"), "tools": [TOOL]}, "tool_choice.function.name"),
        ({"tool_choice": allowed("none", "look"), "tools": [TOOL]}, "tool_choice.allowed_tools.mode"),
        (
            {"tool_choice": allowed("auto", "look", "stare"), "tools": [TOOL]},
            "tool_choice.allowed_tools.tools[1].function.name",
        ),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"service_tier": "first"}, "service_tier"),
        ({"logit_bias": {"word": 1}}, "logit_bias.word"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {str(token): 1 for token in range(1025)}}, "logit_bias"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_completion_tokens": 10**30}, "max_completion_tokens"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": nested(250)}}]},
            "tools[0].function.parameters",
        ),
    ],
)
def test_wrong_value_names_its_field(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


def test_upstream_body_has_what_was_sent_and_nothing_that_ends_here() -> None:
    request = ChatRequest.model_validate(
        {
            "model": "fake",
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "content": "1", "tool_call_id": "c"},
            ],
            "stop": ["\n"],
            "user": "u",
            "metadata": {"a": "b"},
            "store": False,
            "service_tier": "auto",
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        }
    )
    request.check()
    body = request.upstream_body()
    assert set(body) == {"model", "messages", "stop", "response_format"}
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["messages"][2]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_the_model_is_shown_the_allowed_tools_alone(mode: str) -> None:
    tools = [chosen(name) for name in ("look", "stare", "gaze")]
    fields = {"tools": tools, "tool_choice": allowed(mode, "gaze", "look")}
    request = ChatRequest.model_validate({"model": "fake", "messages": [USER], **fields})
    request.check()
    body = request.upstream_body()
    assert (body["tool_choice"], body["tools"]) == (mode, [tools[0], tools[2]])


def test_arguments_that_are_no_object_are_sent_as_one() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{oh"}}
    messages = [USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "", "tool_call_id": "c"}]
    body = ChatRequest.model_validate({"model": "fake", "messages": messages}).upstream_body()
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"arguments":"{oh"}'


def test_the_deepest_schema_that_is_taken_can_be_written_for_vllm() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": nested(MOST_JSON_LEVELS)}}
    request = ChatRequest.model_validate({"model": "fake", "messages": [USER], "tools": [tool]})
    assert orjson.loads(orjson.dumps(request.upstream_body()))["tools"] == [tool]


def test_answer_of_vllm_can_be_sent_back_as_it_came() -> None:
    answer: dict[str, Any] = {
        "role": "assistant", "content": "Hi", "refusal": None, "annotations": None, "audio": None,
        "function_call": None, "tool_calls": [], "reasoning": None,
    }  # fmt: skip
    request = ChatRequest.model_validate({"model": "fake", "messages": [USER, answer, USER]})
    request.check()
    assert request.upstream_body()["messages"][1] == {"role": "assistant", "content": "Hi", "tool_calls": []}


def test_null_says_nothing_but_of_a_parameter_that_nobody_knows() -> None:
    optional = (ChatRequest.model_fields.keys() | ChatRequest.refused.keys()) - {"model", "messages"}
    body = {"model": "fake", "messages": [USER], **dict.fromkeys(optional)}
    request = ChatRequest.model_validate(body)
    request.check()
    assert set(request.upstream_body()) == {"model", "messages"}
    assert refusal(priority=None).param == "priority"


def test_empty_lists_ask_for_nothing() -> None:
    request = ChatRequest.model_validate({"model": "fake", "messages": [USER], "tools": [], "functions": []})
    request.check()
    assert set(request.upstream_body()) == {"model", "messages"}


def test_tool_choice_without_tools_says_nothing_unless_one_must_be_called() -> None:
    for choice in ("auto", "none"):
        body = {"model": "fake", "messages": [USER], "tool_choice": choice, "parallel_tool_calls": False}
        request = ChatRequest.model_validate(body)
        request.check()
        assert set(request.upstream_body()) == {"model", "messages"}


def test_hints_end_here_and_what_samples_goes_to_vllm() -> None:
    sampling = {
        "temperature": 0.5, "presence_penalty": 1, "frequency_penalty": -1, "seed": 7, "n": 2, "stop": ["x"],
        "logit_bias": {"5": -100, "7": 0.5}, "logprobs": True, "top_logprobs": 20, "max_completion_tokens": 9,
        "ignore_eos": True, "min_tokens": 3, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1,
    }  # fmt: skip
    hints = {
        "prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
        "safety_identifier": "s", "user": "u", "service_tier": "priority", "verbosity": "medium", "store": True,
        "modalities": ["text"], "metadata": {"a": "b"}, "prediction": {"type": "content", "content": "Hello"},
        "prompt_cache_key": "k", "stream": True,
    }  # fmt: skip
    stream_options = {"include_usage": True, "continuous_usage_stats": True}
    request = ChatRequest.model_validate(
        {
            "model": "fake",
            "messages": [USER],
            **sampling,
            **hints,
            "stream_options": {**stream_options, "include_obfuscation": True},
        }
    )
    request.check()
    body = request.upstream_body()
    assert body == {"model": "fake", "messages": [USER], **sampling, "stream_options": stream_options}


def test_nothing_unknown_is_passed_over_in_a_prediction() -> None:
    said = {"type": "text", "text": "Hello", "prompt_cache_breakpoint": {"mode": "explicit"}}
    for part, passes in ((said, True), ({**said, "other": 1}, False), ({"type": "image_url"}, False)):
        body = {"model": "fake", "messages": [USER], "prediction": {"type": "content", "content": [part]}}
        with nullcontext() if passes else pytest.raises(ValidationError):
            ChatRequest.model_validate(body)


def test_top_p_of_0_is_sent_as_the_smallest_that_vllm_takes() -> None:
    request = ChatRequest.model_validate({"model": "fake", "messages": [USER], "top_p": 0})
    assert 0 < request.upstream_body()["top_p"] < 1e-4


def test_top_logprobs_of_0_need_no_logprobs() -> None:
    body = {"model": "fake", "messages": [USER], "logprobs": False, "top_logprobs": 0}
    request = ChatRequest.model_validate(body)
    request.check()
    assert "top_logprobs" not in request.upstream_body()


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"properties": {"a": {"enum": list(range(1001))}}}, "#/properties/a/enum"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"type": "array", "maxItems": 10**6}, "10,000"),
        ({"properties": {"{reason}": 5}}, "#/properties/{reason}"),
    ],
)
def test_a_schema_over_a_bound_is_refused_with_its_field_its_place_and_the_bound(
    schema: dict[str, Any], said: str
) -> None:
    in_format = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    in_tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    for more, param in (
        ({"response_format": in_format}, "response_format.json_schema.schema"),
        ({"tools": [in_tool]}, "tools[0].function.parameters"),
    ):
        error = refusal(**more)
        assert (error.param, error.error_code) == (param, "invalid_value")
        assert said in error.message
