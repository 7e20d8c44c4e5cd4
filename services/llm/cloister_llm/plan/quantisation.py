"""How many bytes each weight takes once loaded, by what a ``quantization_config`` says is quantised.

Every method leaves something alone: embeddings, norms, routers, mostly the head and vision towers, and what its own
list of exceptions names. The rest has so many bits, and scales (and zero points) for each group of weights.
"""

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cloister_llm.plan.configuration import PlanError
from cloister_llm.plan.inventory import Inventory, Weight

__all__ = ["Scheme", "loaded_bytes", "read_scheme"]

_SCALE_BYTES = 2.0
_EXCEPTIONS = (
    "modules_to_not_convert",
    "ignore",
    "ignored_layers",
    "llm_int8_skip_modules",
    "exclude_modules",
    "exclude",
)
_FP8_BLOCK = 128 * 128
_EXPRESSION_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a model's weights are stored and computed in."""

    method: str
    """``quant_method``; empty where nothing is quantised."""
    bits: float
    """Of one quantised weight, its share of scales and zero points included."""
    computes: str
    """What matrices are multiplied in: ``fp16`` where weights are unpacked first, ``fp8``, ``int8`` or ``fp4``."""
    known: bool = True
    """Whether the method is one whose size is known; the other is counted as if nothing were quantised."""


def read_scheme(quantisation: Mapping[str, Any]) -> Scheme:
    """The scheme of a ``quantization_config``, by its largest kind of weights where it has several."""
    method = str(quantisation.get("quant_method") or _producer(quantisation)).lower().replace("_", "-")
    if not quantisation:
        return Scheme("", 16.0, "fp16")
    if method == "compressed-tensors":
        return _largest([_group(group) for group in (quantisation.get("config_groups") or {}).values()], method)
    if method in {"fp8", "fbgemm-fp8"}:
        block = quantisation.get("weight_block_size")
        return Scheme(method, 8 + (32 / _FP8_BLOCK if block else 0), "fp8")
    if method == "mxfp4":  # a byte of scale for 32 weights; unpacked for matrices of 16 bits where there are none of 4
        return Scheme(method, 4.25, "fp4")
    if method == "bitsandbytes":
        return _bitsandbytes(quantisation)
    if method.startswith("modelopt"):
        algorithm = str(quantisation.get("quant_algo") or (quantisation.get("quantization") or {}).get("quant_algo"))
        four = "FP4" in algorithm.upper() or method == "modelopt-fp4"
        return Scheme(method, 4.5, "fp4") if four else Scheme(method, 8.0, "fp8")
    if method == "quark":
        return _quark(quantisation)
    bits = quantisation.get("bits") or quantisation.get("w_bit")
    if isinstance(bits, int) and bits > 0:  # AWQ, GPTQ, AutoRound
        size = int(quantisation.get("group_size") or quantisation.get("q_group_size") or 128)
        zeros = quantisation.get("zero_point", not quantisation.get("sym", False))
        return Scheme(method, bits + _scales(size, bits if zeros else 0), "fp16")
    return Scheme(method, 16.0, "fp16", known=False)


def _bitsandbytes(quantisation: Mapping[str, Any]) -> Scheme:
    if not quantisation.get("load_in_4bit") and not quantisation.get("_load_in_4bit"):
        return Scheme("bitsandbytes", 8.0, "int8")
    # A scale for 64 weights, which published files quantise again: 8 bits, and 32 for 256 of them.
    scales = 8 / 64 + 32 / (64 * 256) if quantisation.get("bnb_4bit_use_double_quant", True) else 32 / 64
    return Scheme("bitsandbytes", 4 + scales, "fp16")


def _quark(quantisation: Mapping[str, Any]) -> Scheme:
    """AMD's tool names a type for all weights."""
    weight = (quantisation.get("global_quant_config") or {}).get("weight") or {}
    weight = weight[0] if isinstance(weight, list | tuple) and weight else weight
    kind = str(weight.get("dtype")) if isinstance(weight, Mapping) else ""
    for name, bits in (("fp4", 4.25), ("fp8", 8.0), ("int8", 8.0)):
        if name in kind:
            return Scheme("quark", bits, name)
    return Scheme("quark", 16.0, "fp16", known=False)


def _producer(quantisation: Mapping[str, Any]) -> str:
    """NVIDIA's tool says who made the file, and no method."""
    return str((quantisation.get("producer") or {}).get("name") or "")


def _scales(group: int, zero_bits: float) -> float:
    """Bits for each weight of scales and zero points that ``group`` weights share; a whole column if not over 0."""
    return (8 * _SCALE_BYTES + zero_bits) / group if group > 0 else 0.0


def _group(group: Mapping[str, Any]) -> Scheme:
    """One of compressed-tensors' groups of layers."""
    weights, inputs = group.get("weights") or {}, group.get("input_activations")
    bits, kind = int(weights.get("num_bits") or 16), str(weights.get("type") or "int")
    strategy, size = str(weights.get("strategy") or ""), int(weights.get("group_size") or 0)
    if bits == 4 and kind == "float":
        return Scheme("compressed-tensors", 4 + (8 / (size or 16)), "fp4" if inputs else "fp16")
    extra = (
        _scales(size, 0 if weights.get("symmetric", True) else bits) if strategy in {"group", "tensor_group"} else 0.0
    )
    computes = ("fp8" if kind == "float" else "int8") if bits == 8 and inputs else "fp16"
    return Scheme("compressed-tensors", bits + extra, computes)


def _largest(schemes: list[Scheme], method: str) -> Scheme:
    return max(schemes, key=lambda scheme: scheme.bits, default=Scheme(method, 16.0, "fp16", known=False))


def loaded_bytes(inventory: Inventory, quantisation: Mapping[str, Any], each: float) -> Mapping[str, float]:
    """Bytes of every weight by name, those that are not quantised with ``each`` bytes an element."""
    scheme = read_scheme(quantisation)
    quantised = _chooser(quantisation, scheme)
    return {
        weight.name: weight.count * (scheme.bits / 8 if quantised(weight) else each) for weight in inventory.weights
    }


def _chooser(quantisation: Mapping[str, Any], scheme: Scheme) -> Callable[[Weight], bool]:
    if not scheme.method or not scheme.known:
        return lambda _: False
    left = [str(name) for key in _EXCEPTIONS for name in quantisation.get(key) or ()]
    left += [f"re:{key[2:]}" for key in quantisation.get("dynamic") or {} if key.startswith("-:")]  # GPTQModel
    head = bool(quantisation.get("lm_head"))

    def chosen(weight: Weight) -> bool:
        if weight.part == "head" and not head:
            return False
        # gpt-oss: experts and nothing else. Towers are left by who quantises to few bits, whatever the list says.
        if (scheme.method == "mxfp4" and weight.part != "expert") or (weight.part == "tower" and scheme.bits < 8):
            return False
        return weight.linear and not any(_names(pattern, weight.name) for pattern in left)

    return chosen


def _names(pattern: str, weight: str) -> bool:
    """Whether an exception means this weight: an expression, a pattern with stars, a name, or a part of one."""
    module = weight.removesuffix(".weight")
    if pattern.startswith("re:"):
        return _matches(pattern.removeprefix("re:"), module)
    if "*" in pattern:
        return fnmatch.fnmatchcase(module, pattern) or fnmatch.fnmatchcase(module, f"{pattern}.*")
    # A name of before a model's parts were renamed still ends, or begins, the same.
    parts = f".{module}."
    return f".{pattern.strip('.')}." in parts


def _matches(expression: str, module: str) -> bool:
    """Whether an expression of a model's file, which may be made to take for ever, finds a module's name."""
    import regex  # of transformers' own requirements, and it can be told to stop

    try:
        return regex.search(expression, module, timeout=_EXPRESSION_SECONDS) is not None
    except (regex.error, TimeoutError) as error:
        raise PlanError(f"The model's config.json has a list of exceptions with '{expression}': {error}.") from error
