"""What a model can, as its folder says: how it writes calls of tools and reasoning, which tells the parsers of vLLM's
that read them, and whether it takes images.

A chat template teaches the model its form of a call, or repeats it, so it has marks that no other form has. Where it
has none that is certain, nothing is guessed: the setting says it, or calls that the model may make are refused.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister_common.settings import SettingsError

from cloister_llm.rendering.tools import PARSER, has_place_for_tools
from cloister_llm.settings import LlmSettings

__all__ = ["NO_PARSER", "Parsers", "default_images", "pod_images", "pod_parsers"]

NO_PARSER = "none"
"""The setting that does without."""

_CALLS = (
    # Several forms have <tool_call> around them; what stands in it tells them apart, so they come first.
    ("<function=", "qwen3_coder"),
    ("<arg_key>", "glm45"),
    ("[TOOL_CALLS]", "mistral"),
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("<｜tool▁calls▁begin｜>", "deepseek_v3"),
    ("<minimax:tool_call>", "minimax_m2"),
    ("<|python_start|>", "llama4_pythonic"),
    ('"parameters": dictionary of argument name and its value', "llama3_json"),
    ("<tool_call>", "hermes"),
)
"""Marks in templates, and the parser of the form that has them."""

_IMAGES = 8
"""In one prompt, where nobody says how many."""

_EYES = ("vision_config", "vision_tower_config", "vit_config", "mm_vision_tower")
"""Keys of configurations with a part that sees."""

_PLACE_FOR_IMAGES = re.compile(r"""["']image["']""")
"""Templates that write a model's own placeholder do so for a part of this type."""

_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Parsers:
    """vLLM's parsers for one model.

    Attributes:
        calls: Of calls that the model may make; None where its form of calls is not known.
        reasoning: Of its reasoning; None where it does none.
    """

    calls: str | None
    reasoning: str | None


def pod_parsers(settings: LlmSettings) -> Parsers:
    """The parsers that the settings name, or else those that the model's folder tells."""
    model = settings.model
    texts = _texts(settings)
    return Parsers(
        _chosen(model.tool_parser, _calls_of(texts)),
        _chosen(model.reasoning_parser, _reasoning_of(texts, str(_json(model.path / "config.json").get("model_type")))),
    )


def pod_images(settings: LlmSettings) -> int:
    """How many images a prompt may have: as the settings say, or else what the model's folder tells.

    Raises:
        SettingsError: The settings want images of a model that cannot take them.
    """
    wanted, found = settings.model.images, _images_of(settings.model.path, _texts(settings))
    if wanted and not found:
        raise SettingsError(
            f"model.images is {wanted}, but the model in {settings.model.path} takes none: its config.json has no "
            "vision part, or its chat template no place for an image. Set it to 0, or leave it out."
        )
    return found if wanted is None else wanted


def default_images(folder: Path) -> int:
    """How many images a prompt may have with the model in ``folder``, where no setting says it."""
    return _images_of(folder, _templates(folder))


def _images_of(folder: Path, templates: list[str]) -> int:
    """A model takes images if it has a part that sees, and a template that writes the placeholders itself: those that
    vLLM writes for a template which has its content as one string would be content."""
    config = _json(folder / "config.json")
    sees = any(config.get(key) for key in _EYES)
    return _IMAGES if sees and any(_PLACE_FOR_IMAGES.search(text) for text in templates) else 0


def _texts(settings: LlmSettings) -> list[str]:
    """The chat templates that are in force."""
    template = settings.engine.extra_arguments.get("chat-template")
    return _templates(settings.model.path) if template is None else [_read(Path(str(template)))]


def _chosen(setting: str | None, found: str | None) -> str | None:
    if setting is None:
        return found
    return None if setting == NO_PARSER else setting


def _calls_of(texts: list[str]) -> str | None:
    with_tools = [text for text in texts if has_place_for_tools(text)]
    if not with_tools:
        return PARSER
    return next((parser for mark, parser in _CALLS if any(mark in text for text in with_tools)), None)


def _reasoning_of(texts: list[str], model_type: str) -> str | None:
    if not any("<think>" in text for text in texts):
        return None
    if model_type.startswith("qwen3"):
        return "qwen3"
    if model_type.startswith("glm4_moe"):
        return "glm45"
    # DeepSeek-R1 and its distillates, whatever they were distilled into: the template begins the reasoning. Later
    # models of the house choose by a variable, and have parsers of their own.
    if any("<｜Assistant｜><think>" in text and "thinking" not in text for text in texts):
        return "deepseek_r1"
    return None


def _templates(folder: Path) -> list[str]:
    """The chat templates of a model, where vLLM looks for them; some models have one of their own for tools."""
    if text := _read(folder / _TEMPLATE_FILES[0]):
        return [text]
    for name in _TEMPLATE_FILES[1:]:
        found = _json(folder / name).get("chat_template")
        if isinstance(found, str):
            return [found]
        if isinstance(found, list):
            return [str(one["template"]) for one in found if isinstance(one, dict) and "template" in one]
    return []


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(file) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read(file: Path) -> str:
    """What vLLM cannot read either is for it to say."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
