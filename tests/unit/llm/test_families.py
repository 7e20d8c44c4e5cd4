"""Which parsers read a model's calls and reasoning, and whether it takes images, by what its folder says."""

import json
from pathlib import Path
from typing import Any

import pytest
from cloister_common.settings import SettingsError
from cloister_llm.families import Parsers, default_images, pod_images, pod_parsers
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


SEES = "{% for part in message.content %}{% if part.type == 'image' %}<image>{% endif %}{% endfor %}"


def write_seeing(folder: Path, template: str, **config: Any) -> None:
    write(folder, template, "llava")
    (folder / "config.json").write_text(json.dumps({"model_type": "llava", **config}))


@pytest.mark.parametrize(
    ("template", "config", "images"),
    [
        (SEES, {"vision_config": {"hidden_size": 8}}, 8),
        (SEES.replace("'", '"'), {"vision_config": {"hidden_size": 8}}, 8),
        (SEES, {"vision_config": None}, 0),
        (SEES, {}, 0),
        ("{{ message.content }}", {"vision_config": {"hidden_size": 8}}, 0),
    ],
    ids=["sees", "sees in other quotes", "without the part", "text only", "content as one string"],
)
def test_a_model_takes_images_if_it_sees_and_its_template_has_a_place(
    make_settings: Any, tmp_path: Path, template: str, config: dict[str, Any], images: int
) -> None:
    folder = tmp_path / "model"
    write_seeing(folder, template, **config)
    assert pod_images(make_settings()) == default_images(folder) == images
    assert pod_images(make_settings(model={"images": 0})) == 0
    if images:
        assert pod_images(make_settings(model={"images": 3})) == 3
    else:
        with pytest.raises(SettingsError, match=r"model\.images is 3"):
            pod_images(make_settings(model={"images": 3}))


def test_a_pod_is_started_for_as_many_images_as_it_takes(make_settings: Any, model_folder: Path) -> None:
    def limits(**model: Any) -> list[str]:
        command = prepare(make_settings(model=model), model_folder / "llm.yaml").command
        return [word for word in command if word.startswith(("--limit-mm-per-prompt=", "--mm-processor-cache-gb="))]

    assert limits() == ['--limit-mm-per-prompt={"image": 0, "video": 0, "audio": 0}']
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps({**config, "vision_config": {"hidden_size": 8}}))
    (model_folder / "chat_template.jinja").write_text(SEES)
    assert limits(images=2) == [
        '--limit-mm-per-prompt={"image": 2, "video": 0, "audio": 0}',
        "--mm-processor-cache-gb=0",
    ]
