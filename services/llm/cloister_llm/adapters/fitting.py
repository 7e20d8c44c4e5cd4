"""Whether an adapter is one for this pod: of a kind, a rank and a shape that the model and its slots take.

vLLM finds some of this out by itself, in the engine, with a page of text; and passes over tensors of modules that the
model does not have.
"""

import json
import re
from pathlib import Path
from typing import Any

from cloister_common.errors import InvalidRequest

from cloister_llm.adapters.folder import CONFIG, WEIGHTS
from cloister_llm.tensors import DamagedTensorsError, tensors_of

__all__ = ["check_fit"]

_TENSOR = re.compile(r"(?P<module>.+?)\.lora_(?:embedding_)?(?P<half>[AB])(?:\.weight)?")
_LAYERS = "layers."
_NOT_APPLIED = ("use_dora", "lora_bias", "use_bdlora", "use_qalora", "alora_invocation_tokens", "layer_replication")
"""Variants of LoRA that vLLM 0.32 does not compute."""


def check_fit(adapter: Path, model: Path, rank: int) -> None:
    """Checks the adapter in ``adapter`` against the model in ``model`` and the largest rank of its slots.

    Raises:
        InvalidRequest: It does not fit, and why.
    """
    config = _config(adapter / CONFIG)
    largest = max([_rank(config.get("r")), *map(_rank, (config.get("rank_pattern") or {}).values())])
    if largest > rank:
        raise _unfit(f"it has rank {largest}, and the pods take up to {rank}. Raise lora.rank of the model's pods")
    try:
        tensors = tensors_of(adapter / WEIGHTS)
    except DamagedTensorsError as error:
        raise _unfit(f"{WEIGHTS} is damaged or no safetensors file. Copy the adapter again") from error
    halves = {name: _TENSOR.fullmatch(name) for name in tensors}
    strange = next((name for name, found in halves.items() if found is None), None)
    if strange is not None:
        raise _unfit(f"'{strange}' is no tensor of LoRA")
    if not halves:
        raise _unfit(f"{WEIGHTS} has no tensors")
    weights, quantised = _model_weights(model)
    for name, found in halves.items():
        assert found is not None
        place = _place(found["module"])
        if place not in weights:
            raise _unfit(f"the model has no module '{place}'. It was trained for another one")
        inner, outer = _sides(tensors[name]["shape"], found["half"])
        if inner > rank:
            raise _unfit(f"'{name}' has rank {inner}, and the pods take up to {rank}")
        shape = weights[place]
        # Of quantised weights, of experts that are stored as one, and of embeddings the shape is another.
        plain = not quantised and shape is not None and len(shape) == 2 and "lora_embedding" not in name
        if plain and shape is not None and outer != shape[1 if found["half"] == "A" else 0]:
            raise _unfit(f"'{name}' does not fit the model's '{place}'. It was trained for another model")


def _config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_bytes())
    except ValueError as error:
        raise _unfit(f"{CONFIG} is not JSON") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _unfit("it is no LoRA adapter of PEFT's (peft_type)")
    for name in _NOT_APPLIED:
        if config.get(name):
            raise _unfit(f"vLLM does not compute '{name}'")
    if config.get("bias", "none") != "none" or config.get("modules_to_save"):
        raise _unfit("it changes more than LoRA does (bias, modules_to_save)")
    return config


def _rank(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _unfit("its rank (r, rank_pattern) is no number above 0")
    return value


def _sides(shape: Any, half: str) -> tuple[int, int]:
    """The rank of one half, and its other side: A is (rank, in), B is (out, rank)."""
    if not isinstance(shape, list) or len(shape) != 2:
        raise _unfit("its tensors are no matrices")
    return (shape[0], shape[1]) if half == "A" else (shape[1], shape[0])


def _model_weights(model: Path) -> tuple[dict[str, list[int] | None], bool]:
    """The shape of each module's weight by its place, None where it has no plain one; and whether it is quantised."""
    config = json.loads((model / "config.json").read_bytes())
    quantised = bool(config.get("quantization_config"))
    found: dict[str, list[int] | None] = {}
    for file in model.glob("*.safetensors"):
        for name, tensor in tensors_of(file).items():
            module, _, kind = name.rpartition(".")
            place = _place(module)
            if kind == "weight" or place not in found:
                found[place] = tensor["shape"] if kind == "weight" else None
    # Tied to the embedding, it has no weight of its own.
    found.setdefault("lm_head", None)
    return found, quantised


def _place(module: str) -> str:
    """A module by its layer and name: what stands before differs between PEFT, Transformers and their versions."""
    at = module.rfind(_LAYERS)
    return module[at:] if at >= 0 else module.rpartition(".")[2]


def _unfit(why: str) -> InvalidRequest:
    return InvalidRequest(f"The adapter does not fit: {why}.", param="folder", code="adapter_unfit")
