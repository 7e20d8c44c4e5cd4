"""Loads a checked model folder into an `Encoder`: local files, safetensors and the library's own classes only."""

import os
from collections.abc import Sequence
from typing import Any

from cloister_common.settings import SettingsError

from cloister_embedder.models.compute import Device, choose_device, choose_dtype, default_batch_tokens
from cloister_embedder.models.encoder import Encoder
from cloister_embedder.models.scores import ScoreEncoder
from cloister_embedder.models.tokenizer import TextTokenizer
from cloister_embedder.models.vectors import VectorEncoder
from cloister_embedder.settings import ComputeSettings, ModelSettings

__all__ = ["load_encoder"]


def load_encoder(name: str, settings: ModelSettings, compute: ComputeSettings) -> Encoder[Any]:
    """Reads the model into memory and runs it once, so that the first caller does not wait for warming up.

    Takes seconds; call it in a thread. The folder must have passed `check_folder`.

    Raises:
        SettingsError: The folder holds a model of another kind than the settings say.
    """
    # Read by huggingface_hub when it is imported: no look-up of any kind leaves this process.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Its own handler writes plain text to stderr; the process's handler writes JSON.
    logging.disable_default_handler()
    logging.enable_propagation()
    device = choose_device(compute.device)
    arguments: dict[str, Any] = {
        "device": device,
        "local_files_only": True,
        "trust_remote_code": False,
        "model_kwargs": {"dtype": choose_dtype(settings.dtype, device), "use_safetensors": True},
    }
    encoder: Encoder[Any]
    if settings.kind == "rerank":
        encoder = _load_scores(name, settings, arguments, device)
        encoder.encode(encoder.prepare([("warm", "up")]))
    else:
        encoder = _load_vectors(name, settings, arguments, device)
        encoder.encode(encoder.prepare(["warm up"]))
    return encoder


def _load_vectors(name: str, settings: ModelSettings, arguments: dict[str, Any], device: Device) -> VectorEncoder:
    from sentence_transformers import SentenceTransformer  # takes seconds to import

    model = SentenceTransformer(str(settings.path), **arguments)
    # Layers after the transformer (Dense) load in float32 whatever the dtype.
    model.to(device=device, dtype=model.dtype).eval()
    if not model.supports("text") or model.supports("message"):
        raise SettingsError(f"Model '{name}' does not take plain text. Use an SBERT or CLIP model.")
    if settings.kind == "image" and not model.supports("image"):
        raise SettingsError(f"Model '{name}' has the kind image, but takes no images. Use a CLIP model, or kind text.")
    prompt = model.prompts.get(model.default_prompt_name or "", "") or ""
    if prompt and any(getattr(module, "include_prompt", True) is False for module in model):
        raise SettingsError(f"Model '{name}' leaves its prompt out of the pooling, which is not supported.")
    dimensions = model.get_embedding_dimension()
    if dimensions is None:
        raise SettingsError(f"Model '{name}' does not say how many dimensions its vectors have.")
    return VectorEncoder(
        model,
        TextTokenizer(name, model.tokenizer, prompt=prompt),
        max_tokens=_max_tokens(name, model),
        dimensions=dimensions,
        shorter=_shorter(name, settings, model, dimensions),
        batch_tokens=default_batch_tokens(device),
    )


def _shorter(name: str, settings: ModelSettings, model: Any, dimensions: int) -> Sequence[int]:
    """To how many dimensions the vectors may be cut, by the settings, or else by the model's own ``config.json``.

    There ``matryoshka_dimensions`` lists them, or ``is_matryoshka`` says that any number will do: the two words that
    vLLM reads too.
    """
    stated = settings.matryoshka_dimensions
    if stated is None:
        stated = getattr(model.config, "matryoshka_dimensions", None)
    if not stated:
        any_number = settings.matryoshka_dimensions is None and getattr(model.config, "is_matryoshka", False)
        return range(1, dimensions) if any_number else ()
    if not all(type(one) is int and 0 < one <= dimensions for one in stated):
        raise SettingsError(
            f"Model '{name}': its vectors have {dimensions} dimensions, and matryoshka_dimensions holds something else "
            f"than numbers from 1 to {dimensions}. Correct it, in the settings or the folder's config.json."
        )
    return sorted(set(stated) - {dimensions})


def _load_scores(name: str, settings: ModelSettings, arguments: dict[str, Any], device: Device) -> ScoreEncoder:
    from sentence_transformers import CrossEncoder
    from torch.nn import Linear

    model = CrossEncoder(str(settings.path), **arguments)
    # The scores themselves in float32: bfloat16 has 8 bits, and good documents would tie.
    heads = [name for name, part in model.named_modules() if type(part) is Linear and part.out_features == 1]
    model.set_keep_in_fp32_modules(heads)
    model.eval()
    if model.num_labels != 1:
        raise SettingsError(
            f"Model '{name}' has {model.num_labels} outputs; a reranker has one. Use a cross-encoder for relevance."
        )
    return ScoreEncoder(
        model,
        TextTokenizer(name, model.tokenizer),
        max_tokens=_max_tokens(name, model),
        batch_tokens=default_batch_tokens(device),
    )


def _max_tokens(name: str, model: Any) -> int:
    """The smallest of what the folder, the architecture and the tokenizer allow. A huge number means "not said"."""
    config = getattr(model.config, "text_config", None) or model.config
    stated = [
        model.max_seq_length,
        getattr(config, "max_position_embeddings", None),
        getattr(model.tokenizer, "model_max_length", None),
    ]
    limits = [int(limit) for limit in stated if limit is not None and 0 < limit < 10**9]
    if not limits:
        raise SettingsError(f"Model '{name}' does not say how many tokens it reads. Add max_seq_length to its folder.")
    return min(limits)
