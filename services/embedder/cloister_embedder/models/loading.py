"""Loads a checked model folder into an `Encoder`: local files, safetensors and the library's own classes only."""

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from cloister_common.logs import get_logger
from cloister_common.settings import SettingsError

from cloister_embedder.models.compute import Device, available_cores, choose_device
from cloister_embedder.models.encoder import Encoder
from cloister_embedder.models.images import ImageReader
from cloister_embedder.models.precision import (
    Measured,
    Measurements,
    Precision,
    batch_tokens_within,
    choose_precision,
    machine_key,
    possible_precisions,
)
from cloister_embedder.models.prompts import prompts_of
from cloister_embedder.models.scores import ScoreEncoder
from cloister_embedder.models.tokenizer import TextTokenizer
from cloister_embedder.models.vectors import VectorEncoder
from cloister_embedder.settings import ComputeSettings, ModelSettings

__all__ = ["load_encoder"]

log = get_logger(__name__)

_GPU_BATCH_TOKENS = 65_536
_USUAL_WIDTH = 384
"""Of a model whose configuration does not say how wide it is."""
_MEASURED_TEXTS = 16
_MEASURED_WORDS = 62
"""About a thousand tokens, or as many as the model reads: in fewer all is overhead."""


def load_encoder(name: str, settings: ModelSettings, compute: ComputeSettings) -> Encoder[Any]:
    """Reads the model into memory and runs it, so that the first caller does not wait for warming up.

    Takes seconds; call it in a thread. The folder must have passed `check_folder`.

    Raises:
        SettingsError: The folder holds a model of another kind than the settings say, or cannot compute as they say.
    """
    # Read by huggingface_hub when it is imported: no look-up of any kind leaves this process.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Its own handler writes plain text to stderr; the process's handler writes JSON.
    logging.disable_default_handler()
    logging.enable_propagation()
    device = choose_device(compute.device)
    config = (settings.path / "config.json").read_bytes() if (settings.path / "config.json").exists() else b"{}"
    measurements = Measurements(compute.measurements if settings.dtype == "auto" else None)
    key = machine_key(config, device=device, threads=available_cores(compute))
    earlier = measurements.find(key)
    precision = earlier.precision if earlier is not None else _precision(name, settings, device, config)
    load = _load_scores if settings.kind == "rerank" else _load_vectors
    encoder = load(name, settings, device, precision)
    if earlier is None:
        encoder.batch_tokens = _batch_tokens(encoder, device, pairs=settings.kind == "rerank")
        measurements.keep(key, Measured(precision, encoder.batch_tokens))
    else:
        encoder.batch_tokens = earlier.batch_tokens
        _seconds(encoder, texts=1, words=2, pairs=settings.kind == "rerank")
    log.info("model_computes", model=name, device=device, precision=precision, batch_tokens=encoder.batch_tokens)
    return encoder


def _precision(name: str, settings: ModelSettings, device: Device, config: bytes) -> Precision:
    if settings.dtype == "auto":
        return choose_precision(json.loads(config).get("hidden_size") or _USUAL_WIDTH, device)
    if settings.dtype == "int8" and "int8" not in possible_precisions(device):
        raise SettingsError(
            f"Model '{name}': dtype is int8, which is for processors with VNNI or AMX and not for this {device}. "
            "Use dtype: auto."
        )
    return settings.dtype


def _arguments(device: Device, precision: Precision) -> dict[str, Any]:
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    return {
        "device": device,
        "local_files_only": True,
        "trust_remote_code": False,
        "model_kwargs": {"dtype": dtype, "use_safetensors": True},
    }


def _seconds(encoder: VectorEncoder | ScoreEncoder, *, texts: int, words: int, pairs: bool) -> tuple[int, float]:
    """Padded tokens of a pass over so many texts of so many words, and what the quicker of two passes took."""
    text = " ".join(["word"] * words)
    batch = encoder.prepare([("", text)] * texts if pairs else [text] * texts)
    if batch[0].length > encoder.max_tokens:
        return _seconds(encoder, texts=texts, words=words // 2, pairs=pairs)
    best = float("inf")
    for _ in range(2):
        started = time.perf_counter()
        encoder.encode(batch)
        best = min(best, time.perf_counter() - started)
    return len(batch) * batch[0].length, best


def _batch_tokens(encoder: VectorEncoder | ScoreEncoder, device: Device, *, pairs: bool) -> int:
    tokens, seconds = _seconds(encoder, texts=_MEASURED_TEXTS, words=_MEASURED_WORDS, pairs=pairs)
    return _GPU_BATCH_TOKENS if device == "cuda" else batch_tokens_within(tokens, seconds)


def _load_vectors(name: str, settings: ModelSettings, device: Device, precision: Precision) -> VectorEncoder:
    from sentence_transformers import SentenceTransformer  # takes seconds to import

    model = SentenceTransformer(str(settings.path), **_arguments(device, precision))
    # Layers after the transformer (Dense) load in float32 whatever the dtype.
    model.to(device=device, dtype=model.dtype).eval()
    if not model.supports("text") or model.supports("message"):
        raise SettingsError(f"Model '{name}' does not take plain text. Use an SBERT or CLIP model.")
    if settings.kind == "image" and not model.supports("image"):
        raise SettingsError(f"Model '{name}' has the kind image, but takes no images. Use a CLIP model, or kind text.")
    prompts = prompts_of(name, settings, model)
    dimensions = model.get_embedding_dimension()
    if dimensions is None:
        raise SettingsError(f"Model '{name}' does not say how many dimensions its vectors have.")
    shorter = _shorter(name, settings, model, dimensions)
    max_tokens = _max_tokens(name, model)
    tokenizer = TextTokenizer(name, model.tokenizer, prompts=prompts)
    images = _image_reader(model) if settings.kind == "image" else None
    _convert(name, model, device, precision)
    return VectorEncoder(model, tokenizer, max_tokens=max_tokens, dimensions=dimensions, shorter=shorter, images=images)


def _image_reader(model: Any) -> ImageReader:
    """What makes a CLIP model's inputs of pictures, of the folder's own processor."""
    vision = getattr(model.config, "vision_config", None)
    side, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    tokens = (side // patch) ** 2 + 1 if isinstance(side, int) and isinstance(patch, int) else 50
    return ImageReader(model.processor.image_processor, tokens=tokens)


def _convert(name: str, model: Any, device: Device, precision: Precision) -> None:
    if device == "cpu":
        from cloister_embedder.models.linear import convert_linear_layers

        convert_linear_layers(name, model, precision)


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


def _load_scores(name: str, settings: ModelSettings, device: Device, precision: Precision) -> ScoreEncoder:
    from sentence_transformers import CrossEncoder
    from torch.nn import Linear

    model = CrossEncoder(str(settings.path), **_arguments(device, precision))
    # The scores themselves in float32: bfloat16 has 8 bits, and good documents would tie.
    heads = [name for name, part in model.named_modules() if type(part) is Linear and part.out_features == 1]
    model.set_keep_in_fp32_modules(heads)
    model.eval()
    if model.num_labels != 1:
        raise SettingsError(
            f"Model '{name}' has {model.num_labels} outputs; a reranker has one. Use a cross-encoder for relevance."
        )
    tokenizer, max_tokens = TextTokenizer(name, model.tokenizer), _max_tokens(name, model)
    _convert(name, model, device, precision)
    return ScoreEncoder(model, tokenizer, max_tokens=max_tokens)


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
