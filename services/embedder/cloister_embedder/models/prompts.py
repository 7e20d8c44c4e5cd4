"""What a model wants before a text: by what the text is, from the settings or the model's own folder."""

from collections.abc import Mapping
from typing import Any

from cloister_common.settings import SettingsError
from cloister_common.wire.embeddings import InputType

from cloister_embedder.settings import ModelSettings

__all__ = ["prompts_of"]

_NAMES: Mapping[InputType, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}
"""What folders call these prompts: the names that ``encode_query`` and ``encode_document`` of sentence-transformers
look for. Those take the first there is, which may be an empty one that was put there by default; here that is none.
"""


def prompts_of(name: str, settings: ModelSettings, model: Any) -> dict[InputType | None, str]:
    """The prompt of each kind of text, ``""`` for none; under ``None`` that of a text which is neither.

    Where nothing is said about a kind, the folder's default prompt stands before it.

    Args:
        name: The model's public name, for the error.
        settings: Its settings, whose ``prompts`` go before the folder's.
        model: The loaded ``SentenceTransformer``.

    Raises:
        SettingsError: The model leaves its prompt out of the pooling, or has layers for each kind of text.
    """
    if any(type(module).__name__ == "Router" for module in model):
        raise SettingsError(f"Model '{name}' has layers of their own for queries and passages, which is not supported.")
    stated, own = settings.prompts, model.prompts
    default = stated.get("default", own.get(model.default_prompt_name or "") or "")
    prompts: dict[InputType | None, str] = {None: default}
    for kind, names in _NAMES.items():
        found = next((own[one] for one in names if own.get(one)), default)
        prompts[kind] = stated.get(kind, found)
    if any(prompts.values()) and any(getattr(module, "include_prompt", True) is False for module in model):
        raise SettingsError(f"Model '{name}' leaves its prompt out of the pooling, which is not supported.")
    return prompts
