"""Which parsers read a model's calls and reasoning, by what its folder says."""

import json
from pathlib import Path
from typing import Any

import pytest
from cloister_llm.families import Parsers, pod_parsers
from cloister_llm.launcher import prepare

QWEN = '{% if tools %}<tool_call>\n{"name": …, "arguments": …}{% endif %}'
TEMPLATES = [
    ("{{ messages }}", "llama", Parsers("hermes", None)),  # no place for tools: ours, which is Hermes's
    (QWEN, "qwen2", Parsers("hermes", None)),
    (QWEN + "<think>", "qwen3", Parsers("hermes", "qwen3")),
    (QWEN + "<think>", "qwen3_moe", Parsers("hermes", "qwen3")),
    (QWEN, "qwen3", Parsers("hermes", None)),
    (QWEN + "<think>", "smollm3", Parsers("hermes", None)),
    ("{{ tools }}<tool_call>\n<function=x>", "qwen3_next", Parsers("qwen3_coder", None)),
    ("{{ tools }}<tool_call>x<arg_key><think>", "glm4_moe", Parsers("glm45", "glm45")),
    (
        '{{ tools }} {"name": f, "parameters": dictionary of argument name and its value}',
        "llama",
        Parsers("llama3_json", None),
    ),
    ("{{ tools }}[TOOL_CALLS]", "mistral", Parsers("mistral", None)),
    ("{{ tools }} call them somehow", "llama", Parsers(None, None)),
    ("<｜Assistant｜><think>\\n", "qwen2", Parsers("hermes", "deepseek_r1")),
    ("<｜Assistant｜><think>{{ thinking }}", "deepseek_v3", Parsers("hermes", None)),
]


def write(folder: Path, template: Any, model_type: str, *, where: str = "tokenizer_config.json") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / where).write_text(template if where.endswith("jinja") else json.dumps({"chat_template": template}))


@pytest.mark.parametrize("where", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"])
@pytest.mark.parametrize(("template", "model_type", "parsers"), TEMPLATES)
def test_the_template_tells_the_parsers(
    make_settings: Any, tmp_path: Path, template: str, model_type: str, parsers: Parsers, where: str
) -> None:
    write(tmp_path / "model", template, model_type, where=where)
    assert pod_parsers(make_settings()) == parsers


def test_a_template_of_its_own_for_tools_is_the_one_that_tells(make_settings: Any, tmp_path: Path) -> None:
    named = [{"name": "default", "template": "x"}, {"name": "tool_use", "template": "{{ tools }}[TOOL_CALLS]"}]
    write(tmp_path / "model", named, "mistral")
    assert pod_parsers(make_settings()).calls == "mistral"


def test_an_operators_template_is_the_one_that_tells(make_settings: Any, tmp_path: Path) -> None:
    write(tmp_path / "model", QWEN, "qwen2")
    file = tmp_path / "own.jinja"
    file.write_text("{{ tools }}[TOOL_CALLS]")
    assert pod_parsers(make_settings(engine={"extra_arguments": {"chat-template": str(file)}})).calls == "mistral"


def test_settings_go_before_what_is_found(make_settings: Any, tmp_path: Path) -> None:
    write(tmp_path / "model", QWEN + "<think>", "qwen3")
    named = {"tool_parser": "pythonic", "reasoning_parser": "step3"}
    assert pod_parsers(make_settings(model=named)) == Parsers("pythonic", "step3")
    without = {"tool_parser": "none", "reasoning_parser": "none"}
    assert pod_parsers(make_settings(model=without)) == Parsers(None, None)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"chat_template": 5}', "\ud800"])
def test_a_folder_that_cannot_be_read_is_left_to_vllm(make_settings: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "model").mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes(content.encode(errors="surrogatepass"))
    assert pod_parsers(make_settings()) == Parsers("hermes", None)


@pytest.mark.parametrize(
    ("template", "options"),
    [
        ("{{ messages }}", ["--tool-call-parser=hermes"]),
        (QWEN + "<think>", ["--tool-call-parser=hermes", "--reasoning-parser=qwen3"]),
        ("{{ tools }} somehow", ["--tool-call-parser=hermes"]),  # for calls that are forced; the guard refuses others
    ],
)
def test_vllm_is_started_with_them(make_settings: Any, model_folder: Path, template: str, options: list[str]) -> None:
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen3", "head_dim": 64}))
    (model_folder / "chat_template.jinja").write_text(template)
    command = prepare(make_settings(), Path("llm.yaml")).command
    assert [word for word in command if "-parser=" in word] == options
    assert "--enable-auto-tool-choice" in command
