"""How many bytes a model's weights take in memory, read from the headers of its safetensors files."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloister_llm.plan.quantisation import loaded_bytes
from cloister_llm.plan.shape import DTYPE_BYTES, ModelShape, PlanError
from cloister_llm.tensors import DamagedTensorsError, tensors_of

__all__ = ["matrices", "weight_bytes", "weight_files", "weights_by_name"]

_FLOATS = {"F32": 4.0, "BF16": 2.0, "F16": 2.0}


def weight_files(model: Path) -> list[Path]:
    """The safetensors files vLLM would load: those the index names, else all.

    Raises:
        PlanError: A file the index names is missing, or the index is broken.
    """
    index = model / "model.safetensors.index.json"
    if not index.exists():
        return sorted(model.glob("*.safetensors"))
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise PlanError(f"{index} is broken. Copy the model again.") from error
    files = [model / name for name in names]
    missing = [file.name for file in files if not file.exists()]
    if missing and len(missing) < len(files):
        raise PlanError(f"The model in {model} lacks {', '.join(missing)}. Copy the model again.")
    return [] if missing else files


def weight_bytes(model: Path, shape: ModelShape, dtype: str = "auto") -> int:
    """Bytes of the weights once loaded as ``dtype`` (``auto``: as stored, 32-bit floats as 16-bit ones).

    Without weight files, by the index's total or by what the model's class consists of, so that a plan needs only
    ``config.json``.

    Raises:
        PlanError: A weight file is broken, or there is none and the model cannot be counted.
    """
    files = weight_files(model)
    if files:
        return sum(_tensor_bytes(header, dtype) for header in map(_header, files))
    index = model / "model.safetensors.index.json"
    if index.exists():
        return int(json.loads(index.read_text()).get("metadata", {}).get("total_size", 0)) or _counted(shape, dtype)
    return _counted(shape, dtype)


def matrices(model: Path, most_bytes: int) -> list[tuple[int, int]]:
    """Rows and columns of the model's floating-point matrices, in the order of its files, up to ``most_bytes`` of them.

    Args:
        model: The model's folder, with weights.
        most_bytes: Of all of them together, in 32 bits. One that does not fit is left out, smaller ones after it not.

    Raises:
        PlanError: A weight file is broken.
    """
    found: list[tuple[int, int]] = []
    left = most_bytes
    for header in map(_header, weight_files(model)):
        for tensor in header.values():
            size = 4 * math.prod(tensor["shape"])
            if tensor["dtype"] in _FLOATS and len(tensor["shape"]) == 2 and size <= left:
                found.append((tensor["shape"][0], tensor["shape"][1]))
                left -= size
    return found


def _counted(shape: ModelShape, dtype: str) -> int:
    """By the inventory of the model's class."""
    if not shape.inventory.complete:
        raise PlanError(f"{shape.inventory.note} Copy model.safetensors.index.json, or the weights, beside it.")
    return math.ceil(sum(weights_by_name(shape, dtype).values()))


def weights_by_name(shape: ModelShape, dtype: str = "auto") -> Mapping[str, float]:
    """Bytes of each weight as loaded, by what the model's class and its ``quantization_config`` say."""
    stored = shape.dtype if dtype == "auto" else dtype
    each = 2.0 if stored == "float32" and dtype == "auto" else DTYPE_BYTES.get(stored, 2.0)
    return loaded_bytes(shape.inventory, shape.configuration.quantisation, each)


def _header(file: Path) -> dict[str, Any]:
    try:
        return tensors_of(file)
    except OSError as error:
        raise PlanError(f"Cannot read the weight file {file}: {error.strerror}. Let this process read it.") from error
    except DamagedTensorsError as error:
        raise PlanError(f"The weight file {file} is damaged or incomplete. Copy the model again.") from error


def _tensor_bytes(header: dict[str, Any], dtype: str) -> int:
    total = 0.0
    for tensor in header.values():
        begin, end = tensor["data_offsets"]
        stored = _FLOATS.get(tensor["dtype"])
        if stored is None:
            factor = 1.0  # quantised weights stay as they are
        elif dtype == "auto":
            factor = min(stored, 2.0) / stored
        else:
            factor = DTYPE_BYTES[dtype] / stored
        total += (end - begin) * factor
    return int(total)
