"""What the bodies of requests may hold, field by field: prompts of completions, and what is asked of sampling."""

import contextlib
from typing import Any

import pytest
from cloister_common.errors import CloisterError, InvalidRequest, UnsupportedParameter
from cloister_llm.guard.rules import check_body, check_told_prompt

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
SAMPLING: dict[str, Any] = {
    "temperature": 0,
    "top_p": 1,
    "top_k": -1,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "frequency_penalty": -2,
    "presence_penalty": 2.0,
    "n": 2,
    "seed": -1,
    "max_tokens": 5,
    "min_tokens": 1,
    "ignore_eos": True,
    "stop": ["a", "b"],
    "logit_bias": {"7": -100, "8": 1.5},
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (CHAT, {"messages": MESSAGES, "logprobs": True, "top_logprobs": 20, "max_completion_tokens": 5}),
        (COMPLETION, {"prompt": "a", "logprobs": 5, "echo": True, "cache_salt": "s", "priority": 1}),
    ],
)
def test_what_the_gateway_passes_on_is_taken(path: str, more: dict[str, Any]) -> None:
    check_body(path, {**SAMPLING, **more})
    check_body(path, {**dict.fromkeys(SAMPLING), **more})


WRONG: dict[str, list[Any]] = {
    "temperature": [float("nan"), float("inf"), -0.1, "1", True, [1]],
    "n": [0, 129, 16384, 1.0, True, "2"],
    "top_k": [-2, 2**31, 0.5],
    "logprobs": [-1, 21, "5"],
    "logit_bias": [[1], {str(token): 1 for token in range(1025)}],
    "stop": ["", [""], ["a"] * 17, [5], {}, "x" * 1025],
    "ignore_eos": [1, "true"],
    "min_tokens": [-1, "1"],
    "seed": [2**63],
    "min_p": [1.5],
    "repetition_penalty": [float("nan")],
    "stream_options": [True],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_value_that_is_none_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_body(COMPLETION, {"prompt": "a", field: value})
    assert refused.value.param == field


@pytest.mark.parametrize("token", ["-1", "x", "1.5", "", " 1", "²", "9" * 5000])
def test_a_bias_stands_under_the_id_of_a_token(token: str) -> None:
    with pytest.raises(InvalidRequest, match="logit_bias"):
        check_body(CHAT, {"messages": MESSAGES, "logit_bias": {token: 1}})


@pytest.mark.parametrize("value", [float("nan"), 101, -101, None, True, "1"])
def test_a_bias_is_a_number_within_bounds(value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"logit_bias\.7"):
        check_body(CHAT, {"messages": MESSAGES, "logit_bias": {"7": value}})


def test_an_option_of_streams_that_is_unknown_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        check_body(CHAT, {"messages": MESSAGES, "stream_options": {"include_obfuscation": True}})
    assert refused.value.param == "stream_options.include_obfuscation"


@pytest.mark.parametrize("prompt", ["a", ["a"], ["a", "b"], ["<|im_start|>"] * 1024])
def test_a_completion_takes_text_and_texts(prompt: Any) -> None:
    check_body(COMPLETION, {"prompt": prompt})


@pytest.mark.parametrize(
    "prompt", [None, [], [1, 2], [[1], [2]], ["a", 1], ["a", None], {"text": "a"}, 5, True, ["a"] * 1025]
)
def test_a_completion_takes_nothing_else(prompt: Any) -> None:
    with pytest.raises(CloisterError) as refused:
        check_body(COMPLETION, {"prompt": prompt})
    assert getattr(refused.value, "param", None) == "prompt"


def test_many_prompts_with_many_answers_each_are_refused() -> None:
    check_body(COMPLETION, {"prompt": ["a"] * 8, "n": 128})
    with pytest.raises(InvalidRequest, match="times 'n'"):
        check_body(COMPLETION, {"prompt": ["a"] * 9, "n": 128})


@pytest.mark.parametrize(
    "field",
    [
        *("suffix", "best_of", "messages", "prompt_embeds", "add_special_tokens", "truncate_prompt_tokens"),
        *("prompt_logprobs", "structured_outputs", "response_format", "stop_token_ids", "allowed_token_ids"),
        *("bad_words", "use_beam_search", "kv_transfer_params", "vllm_xargs", "include_stop_str_in_output"),
        *("skip_special_tokens", "return_tokens_as_token_ids", "session_id", "watermarking", "top_logprobs"),
    ],
)
def test_other_fields_of_a_completion_are_refused_by_name(field: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        check_body(COMPLETION, {"prompt": "a", field: None})
    assert refused.value.param == field


@pytest.mark.parametrize(
    "choice",
    ["any", 5, {}, {"type": "function"}, {"type": "function", "function": {}}, {"type": "allowed_tools", "tools": []}],
)
def test_a_choice_of_tools_that_is_none_is_refused_by_name(choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(CloisterError) as refused:
        check_body(CHAT, {"messages": MESSAGES, "tools": tools, "tool_choice": choice})
    assert str(getattr(refused.value, "param", None)).startswith("tool_choice")


@pytest.mark.parametrize("choice", ["none", "auto", "required", {"type": "function", "function": {"name": "f"}}])
def test_every_choice_of_tools_that_vllm_knows_is_taken(choice: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    check_body(CHAT, {"messages": MESSAGES, "tools": tools, "tool_choice": choice})


def test_a_tool_without_a_name_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match=r"tools\[0\]\.function\.name"):
        check_body(CHAT, {"messages": MESSAGES, "tools": [{"type": "function", "function": {}}]})


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"echo": True, "logprobs": 1}, True),
        ({"echo": True, "logprobs": 0}, True),
        ({"echo": True, "logprobs": None}, False),
        ({"echo": False, "logprobs": 1}, False),
        ({}, False),
    ],
)
def test_logprobs_of_a_prompt_would_end_a_pod_that_takes_adapters(body: dict[str, Any], refused: bool) -> None:
    with pytest.raises(UnsupportedParameter) if refused else contextlib.nullcontext():
        check_told_prompt(body)
