"""A model's ``config.json``, read as the class of its model type reads it.

Published files leave out what is their class's default, name the same thing in many ways and say in as many which layer
is of which kind. transformers' configuration classes know all of that, so they are asked: defaults, aliases,
``layer_types``, and layers that differ among each other. They cost seconds to import, which a pod's start should not
pay, so types whose files say everything themselves are read as they are.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any

__all__ = ["Configuration", "PlanError", "Reader", "quietly", "read_configuration"]

_COMPLETE = {"llama", "mistral", "qwen2", "qwen3", "mixtral"}
"""Types of which every layer is alike, and whose files name heads, layers and sizes."""
_COMPLETE_KEYS = {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings"}

_SAME_AS = {
    "kimi_k2": "deepseek_v3",
    "minimax_text_01": "minimax",
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
}
"""Types without a class of their own in transformers, and whose they use (vLLM's registry of configurations)."""

_MOST_LAYERS = 10_000
"""No model has a tenth of it; a file that is damaged may say anything."""
_TEXT = ("text_config", "llm_config", "language_config", "thinker_config")
"""Under which names a model of several modalities keeps its language model."""
_PATTERNS = ("layer_types", "hybrid_override_pattern")
"""What says how many layers there are by naming each."""
_UNREAD = re.compile(
    "ssm|mamba|rwkv|recurrent|linear_attn|lightning|hybrid|block_config|attn_type|compress|layer_group"
)
_UNREAD_TYPE = re.compile("linear|mamba|rwkv|hybrid|ssm|flash")
"""What keys are called that make layers unlike each other, or something else than attention."""
_SECTIONS = ("attn_config", "ffn_config")
"""Where DBRX and MPT keep what others have at the top."""
_TOWERS = ("vision_config", "audio_config", "encoder_config", "vision_tower_config", "audio_encoder_config")
_TOWER = re.compile("(^|_)(vision|visual|image|img|audio|speech|embd)_")
"""What types that no class knows call theirs (Phi-4 multimodal)."""


class PlanError(Exception):
    """A model that cannot be planned. The message is a sentence or two for the operator."""


@contextmanager
def quietly() -> Iterator[None]:
    """transformers says on stderr what it thinks of other people's files; an operator asked for a plan."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Reader:
    """Keys of one layer, or of the model: what the file says, else what its class says."""

    def __init__(self, written: Mapping[str, Any], known: object) -> None:
        self._written = written
        self._known = known

    def get(self, *names: str) -> Any:
        """The first of the names that has a value; None where none has."""
        for name in names:
            value = self._written.get(name)
            if value is None:
                try:
                    value = getattr(self._known, name, None)
                except Exception:  # noqa: BLE001 - a class may compute it of what it does not have
                    value = None
            if value is None:
                value = next((section[name] for section in self._sections() if section.get(name) is not None), None)
            if value is not None:
                return value
        return None

    def _sections(self) -> Iterator[Mapping[str, Any]]:
        for name in _SECTIONS:
            section = self._written.get(name)
            if isinstance(section, Mapping):
                yield section

    def written(self, *names: str) -> Any:
        """Like `get`, of the file alone."""
        return next((self._written[name] for name in names if self._written.get(name) is not None), None)

    def number(self, *names: str) -> int:
        """Like `get`, as a number.

        Raises:
            PlanError: None of the names has a value.
        """
        value = self.get(*names)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value:
            raise PlanError(f"The model's config.json lacks '{names[0]}', which the plan needs.")
        return int(value)

    def count(self, *names: str) -> int:
        """Like `number`, but 0 where there is nothing."""
        value = self.get(*names)
        return int(value) if isinstance(value, int | float) else 0


class Configuration(Reader):
    """The language model in a ``config.json``, and what stands beside it.

    Args:
        file: The whole file.
        known: The class's reading of the language model; None where no class is known.
        whole: The same of the whole model.
    """

    def __init__(self, file: Mapping[str, Any], known: object | None, whole: object | None) -> None:
        super().__init__(_text_of(file), known)
        self.file = file
        self.whole = whole
        self.model_type = str(self.get("model_type") or file.get("model_type") or "unknown")
        self.towers = tuple(
            name
            for name, value in file.items()
            if isinstance(value, Mapping) and value and (name in _TOWERS or (whole is None and _TOWER.search(name)))
        )

    def by_class(self) -> "Configuration | None":
        """The same as transformers' class reads it; None where it has none."""
        if self.whole is not None:
            return self
        whole = _by_class(self.file)
        return None if whole is None else Configuration(self.file, whole.get_text_config(decoder=True), whole)

    def language_model(self) -> "Configuration | None":
        """Of a model of several modalities, its language model as the class of that reads it, if there is one."""
        section = next((self.file[name] for name in _TEXT if isinstance(self.file.get(name), Mapping)), None)
        known = None if section is None else _by_class(section)
        return None if known is None else Configuration(section or {}, known, known)

    @property
    def text(self) -> object:
        """The class's reading of the language model."""
        return self._known

    @cached_property
    def quantisation(self) -> Mapping[str, Any]:
        """How weights are quantised, as the file says it; empty where they are not."""
        for place in (self.file, self._written):
            for name in ("quantization_config", "compression_config"):
                if isinstance(place.get(name), Mapping):
                    return dict(place[name])
        return {}

    def layers(self) -> list[Reader]:
        """One reader for each layer: most models have the same for all."""
        number = self.number("num_hidden_layers", "n_layer", "num_layers", "n_layers")
        if not 0 < number <= _MOST_LAYERS:
            raise PlanError(f"The model's config.json says that it has {number} layers. Copy the model again.")
        if getattr(self._known, "is_heterogeneous", False):
            # Only what the file says of all layers alike may go before what the class says of each.
            return [Reader({}, layer) for layer in self._known.per_layer_config]  # type: ignore[attr-defined]
        return [self] * number


def read_configuration(file: Mapping[str, Any]) -> Configuration:
    """Reads a ``config.json``.

    Raises:
        PlanError: Its class does not take it, or it lacks what every model has.
    """
    kind = str(file.get("model_type", "unknown"))
    if kind in _COMPLETE and file.keys() >= _COMPLETE_KEYS and not file.get("layer_types"):
        written = SimpleNamespace(**{key: value for key, value in file.items() if key.isidentifier()})
        return Configuration(file, written, None)
    whole = _by_class(file)
    if whole is None:
        inner = Configuration(file, None, None).language_model()
        if inner is None:
            _refuse_unread(file)
        return Configuration(file, None if inner is None else _with_layers(inner.text), None)
    text = _with_layers(whole.get_text_config(decoder=True))
    if not any(isinstance(file.get(name), Mapping) for name in _TEXT):
        _check_written(file, text)
    return Configuration(file, text, whole)


def _with_layers(text: Any) -> Any:
    """A class's reading, which also says what differs among its layers."""
    if getattr(text, "is_heterogeneous", False):
        text.allow_global_per_layer_attribute_access = True
    return text


def _by_class(file: Mapping[str, Any]) -> Any:
    """The file as its class reads it; None for a type that transformers does not know."""
    from transformers import CONFIG_MAPPING  # takes seconds

    kind = str(file.get("model_type", "unknown"))
    kind = _SAME_AS.get(kind, kind)
    if kind not in CONFIG_MAPPING:
        return None
    # A quantised checkpoint's own classes, code of the repository and kernels are not asked for.
    left = {key: value for key, value in file.items() if key not in {"auto_map", "_attn_implementation"}}
    if isinstance(kinds := file.get("attn_type_list"), list):  # MiniMax's own files
        left["layer_types"] = ["full_attention" if kind else "linear_attention" for kind in kinds]
    try:
        with quietly():
            return CONFIG_MAPPING[kind].from_dict({**left, "model_type": kind})
    except Exception as error:
        raise PlanError(
            f"The model's config.json is not one of the type '{kind}': {_first_line(error)}. Copy the model again."
        ) from error


def _refuse_unread(file: Mapping[str, Any]) -> None:
    """A type that nobody knows may be taken for one that is known, unless its file says that it is unlike any."""
    unread = [key for key, value in _text_of(file).items() if value and _UNREAD.search(key)]
    unread += ["model_type"] if _UNREAD_TYPE.search(str(file.get("model_type"))) else []
    if unread and not file.get("layer_types"):
        raise PlanError(
            f"'{file.get('model_type')}' is unknown to transformers, and what '{unread[0]}' of its config.json says of "
            "its layers is not known. Use a model of a known type."
        )


def _check_written(file: Mapping[str, Any], text: Any) -> None:
    """A file of a language model alone says how large it is: were it left out, the class would say another's size."""
    for name, others in (
        ("hidden_size", ("n_embd", "d_model", "model_dim")),
        (
            "num_hidden_layers",
            ("n_layer", "n_layers", "num_layers", "num_transformer_layers", "layers_block_type", *_PATTERNS),
        ),
        ("vocab_size", ()),
    ):
        alias = (getattr(type(text), "attribute_map", None) or {}).get(name)
        if not any(file.get(key) for key in (name, alias, *others) if key):
            raise PlanError(f"The model's config.json lacks '{name}', which the plan needs.")


def _text_of(file: Mapping[str, Any]) -> dict[str, Any]:
    """The part about the language model over what is said of the whole."""
    found: dict[str, Any] = dict(file)
    for name in _TEXT:
        if isinstance(inner := file.get(name), Mapping):
            found |= _text_of(inner)
    return found


def _first_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")
