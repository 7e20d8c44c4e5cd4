"""What vLLM's parsers, as a pod composes them, make of answers that no model as small as ours would write."""

import json
import os
import subprocess
from typing import Any

import pytest

from tests.support.llm import chat_model_folder, vllm_python

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "now"}},
]
PARIS = ["weather", '{"city": "Paris"}']
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
NOW = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
LIST = '[{"name": "weather", "arguments": {"city": "Paris"}}, {"name": "now", "arguments": {}}]'
WEATHER = {"type": "function", "function": {"name": "weather"}}

CASES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "text is text": ({"text": "Hello there."}, [None, "Hello there.", []]),
    "a call is read": ({"text": CALL}, [None, None, [PARIS]]),
    "text before a call stays": ({"text": f"I look.\n{CALL}"}, [None, "I look.\n", [PARIS]]),
    "two calls are read": ({"text": f"{CALL}\n{NOW}"}, [None, None, [PARIS, ["now", "{}"]]]),
    "a tag in text stays text": ({"text": "Write <tool_call> and more."}, [None, "Write <tool_call> and more.", []]),
    "a closed tag in text stays text": (
        {"text": "As <tool_call>x</tool_call> has it."},
        [None, "As <tool_call>x</tool_call> has it.", []],
    ),
    "a call of no tool stays text": (
        {"text": CALL.replace("weather", "other")},
        [None, CALL.replace("weather", "other"), []],
    ),
    "without tools nothing is a call": ({"text": CALL, "tools": None, "tool_choice": "none"}, [None, CALL, []]),
    "calls that may not be made are text": ({"text": CALL, "tool_choice": "none"}, [None, CALL, []]),
    "llama's form": (
        {"text": '{"name": "weather", "parameters": {"city": "Paris"}}', "tool_parser": "llama3_json"},
        [None, None, [PARIS]],
    ),
    "json that is no call stays text": (
        {"text": '{"name": "Ann", "parameters": {"age": 5}}', "tool_parser": "llama3_json"},
        [None, '{"name": "Ann", "parameters": {"age": 5}}', []],
    ),
    "calls that must be made": ({"text": LIST, "tool_choice": "required"}, [None, None, [PARIS, ["now", "{}"]]]),
    "calls that are cut off": (
        {"text": LIST[:48], "tool_choice": "required"},
        [None, None, [["weather", '{"city": "Pari']]],
    ),
    "a call that is named": ({"text": '{"city": "Paris"}', "tool_choice": WEATHER}, [None, None, [PARIS]]),
    "calls in a form of the model's own may be forced too": (
        {"text": LIST, "tool_choice": "required", "tool_parser": "qwen3_coder"},
        [None, None, [PARIS, ["now", "{}"]]],
    ),
    "a named one too": (
        {"text": '{"city": "Paris"}', "tool_choice": WEATHER, "tool_parser": "qwen3_coder"},
        [None, None, [PARIS]],
    ),
    **{
        f"{name} of {parser}": ({**case, "reasoning_parser": parser}, read)
        for parser in ("qwen3", "deepseek_r1")
        for name, case, read in (
            ("reasoning", {"text": "<think>Hm, so.</think>Yes."}, ["Hm, so.", "Yes.", []]),
            ("reasoning before a call", {"text": f"<think>Hm.</think>{CALL}"}, ["Hm.", None, [PARIS]]),
            (
                "reasoning before calls that must be made",
                {"text": f"<think>Hm.</think>{LIST}", "tool_choice": "required"},
                ["Hm.", None, [PARIS, ["now", "{}"]]],
            ),
            (
                "reasoning before a call that is named",
                {"text": '<think>Hm.</think>{"city": "Paris"}', "tool_choice": WEATHER},
                ["Hm.", None, [PARIS]],
            ),
            ("reasoning that has no end", {"text": "<think>Hm, so"}, ["Hm, so", None, []]),
        )
    },
}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What was read of each case: in one process, since vLLM takes ten seconds to import."""
    cases = [{"tools": TOOLS, "tool_choice": "auto", "tool_parser": "hermes", **case} for case, _ in CASES.values()]
    environment = {
        **os.environ,
        "VLLM_ENFORCE_STRICT_TOOL_CALLING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_PLUGINS": "",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [vllm_python(), "-m", "tests.support.llm_parser", str(chat_model_folder())],
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        check=True,
        timeout=600,
    )
    return dict(zip(CASES, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("way", ["whole", "streamed"])
@pytest.mark.parametrize("name", CASES)
def test_answers_are_read(found: dict[str, Any], name: str, way: str) -> None:
    assert found[name][way] == CASES[name][1]


def test_calls_that_must_be_made_are_constrained_whatever_parser_the_model_has(found: dict[str, Any]) -> None:
    for name, (case, _) in CASES.items():
        choice = case.get("tool_choice", "auto")
        schema = found[name]["schema"]
        if choice == "required":
            assert schema["type"] == "array"
        else:
            assert schema == ({**CITY, "additionalProperties": False} if choice == WEATHER else None)
