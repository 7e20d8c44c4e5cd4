"""The sums: memory less weights, adapters and workspace is cache; cache divided by a conversation is how many fit."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cloister_llm.plan.shape import DTYPE_BYTES, ModelShape

__all__ = ["GIB", "Capacity", "DoesNotFit", "Load", "kv_element_bytes", "plan_capacity"]

GIB = 1024**3
_BLOCK_TOKENS = 16  # vLLM hands out KV cache in blocks of 16 tokens
_CPU_BLOCK_TOKENS = 128  # and on a CPU of so many
_BATCHED_TOKENS = 8192  # the most tokens vLLM computes in one step by default
_CPU_BATCHED_TOKENS = 2048
_GPU_FIXED = 1.0 * GIB  # CUDA context, kernels and captured graphs
_CPU_FIXED = 1.5 * GIB  # Python, torch and the API server process
_MOST_SEQUENCES = 256  # vLLM's own default for one step
_SHORT = 256  # tokens of a short question and its answer
_ADAPTER_BYTES = 2  # of one element: vLLM keeps adapters in the model's 16 bits
_LEAST_CONTEXT = 1024  # tokens; a chat with less is of no use


@dataclass(frozen=True, slots=True)
class Load:
    """What the model is to run on and to serve."""

    device: Literal["cpu", "gpu"]
    memory_bytes: int
    """Of one GPU, or of the machine (container) for a CPU."""
    devices: int = 1
    """GPUs that share the model (tensor parallel)."""
    stages: int = 1
    """Groups of so many GPUs that have some of the layers each (pipeline parallel)."""
    share: float = 0.9
    """Of a GPU's memory that vLLM may use."""
    context: int | None = None
    """Tokens of the longest conversation; without it, the longest that fits."""
    conversations: int | None = None
    """Conversations of full length to be held at once; without it, as many as fit."""
    kv_cache_bytes: int | None = None
    """Fixed KV cache (CPU)."""
    kv_dtype: str = "auto"
    dtype: str = "auto"
    """What the model computes in, and keeps its cache in where ``kv_dtype`` does not say otherwise."""
    adapter_slots: int = 0
    """LoRA adapters that are ready at once."""
    adapter_rank: int = 16
    """The largest rank among them."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What fits. Bytes are per device."""

    weights: int
    workspace: int
    kv_cache: int
    kv_per_token: int
    """Of one more token in a short conversation."""
    conversation: int
    """Cache of one conversation of full length, states of recurrent layers included."""
    context: int
    conversations: int
    """Of full length, at once. More are served by taking turns."""
    max_num_seqs: int
    adapters: int = 0
    """What slots for adapters take."""


class DoesNotFit(Exception):
    """The model, or the load asked for, is too large. The message has the numbers and the mend."""


def plan_capacity(shape: ModelShape, weights: int, load: Load) -> Capacity:
    """Works out what fits.

    Args:
        shape: The model.
        weights: Bytes of all its weights.
        load: Machine and wishes.

    Raises:
        DoesNotFit: With the numbers, and what to change.
    """
    own_weights = _own(weights, shape, load)
    adapters = _adapters(shape, load)
    workspace = _workspace(shape, load)
    usable = int(load.memory_bytes * (load.share if load.device == "gpu" else 1.0))
    free = usable - own_weights - adapters - workspace
    if free <= 0:
        raise DoesNotFit(
            f"The model does not fit: {_gib(own_weights)} of weights{_of(adapters)} and {_gib(workspace)} of workspace "
            f"are more than the {_gib(usable)} that may be used. {_mend(load)}"
        )
    if load.kv_cache_bytes is not None and load.kv_cache_bytes > free:
        raise DoesNotFit(
            f"A KV cache of {_gib(load.kv_cache_bytes)} does not fit: {_gib(usable)} may be used, weights take "
            f"{_gib(own_weights)} and workspace {_gib(workspace)}, so {_gib(free)} are left. Lower engine.kv_cache_gib."
        )
    cache = load.kv_cache_bytes if load.kv_cache_bytes is not None else free

    def needed(tokens: int) -> int:
        whole = shape.conversation_bytes(
            tokens,
            kv_dtype_bytes=kv_element_bytes(shape, load),
            dtype_bytes=_element_bytes(load.dtype),
            ranks=load.devices,
            step=_steps_at_once(load) * _step_tokens(load),
            block=_block_tokens(load),
        )
        return -(-whole // load.stages)

    wanted = load.conversations or 1
    context = load.context or _longest(needed, cache // wanted, shape.max_context, _block_tokens(load))
    if context > shape.max_context:
        raise DoesNotFit(
            f"A context of {context} tokens is more than the {shape.max_context} the model was made for. "
            f"Set it to {shape.max_context} or less."
        )
    fit = cache // needed(context) if context else 0
    if context < min(_LEAST_CONTEXT, shape.max_context) or fit < wanted:
        longest = _longest(needed, cache // wanted, shape.max_context, _block_tokens(load))
        size = max(context, min(_LEAST_CONTEXT, shape.max_context))
        raise DoesNotFit(
            f"{wanted} conversation(s) of {size} tokens need {_gib(wanted * needed(size))} of KV cache, and "
            f"{_gib(cache)} are there (weights take {_gib(own_weights)}, workspace {_gib(workspace)}). "
            f"With this memory: {longest} tokens for {wanted}. {_mend(load)}"
        )
    return Capacity(
        weights=own_weights,
        workspace=workspace,
        kv_cache=cache,
        kv_per_token=shape.kv_bytes(1, kv_dtype_bytes=kv_element_bytes(shape, load), ranks=load.devices) // load.stages,
        conversation=needed(context),
        context=context,
        conversations=int(fit),
        # The cache decides how many are computed at once: short ones all, long ones as many as it holds. vLLM lets in
        # none whose prompt has no room; where answers grow until none is left, it computes the newest again later.
        max_num_seqs=max(1, min(_MOST_SEQUENCES, cache // max(1, needed(min(_SHORT, context))))),
        adapters=adapters,
    )


def _own(weights: int, shape: ModelShape, load: Load) -> int:
    """Bytes of weights on one device. The stages at both ends have a table of the vocabulary besides their layers."""
    table = shape.vocabulary * shape.hidden * 2 * (1 - 1 / load.stages)
    return math.ceil((weights / load.stages + table) / load.devices)


def _adapters(shape: ModelShape, load: Load) -> int:
    """Bytes of the slots for adapters on one device, for every linear layer, used or not (vLLM allocates them all).

    Of the two matrices of an adapter the one that faces a split side is split over the devices, the other is not.
    """
    if not load.adapter_slots:
        return 0
    whole = load.adapter_slots * load.adapter_rank * shape.inventory.adapter_width() * _ADAPTER_BYTES
    return math.ceil(whole * (1 + 1 / load.devices) / 2 / load.stages)


def _workspace(shape: ModelShape, load: Load) -> int:
    """Activations of one step, and what the runtime takes before a model is loaded.

    Two live activations as wide as the MLP and two as wide as the model, for every token of a step; and the logits
    of one token per sequence in 32 bits. Encoder towers put what they have seen in a cache of one step's tokens.
    """
    seen = _step_tokens(load) * shape.hidden * 2 if shape.towers else 0
    activations = _step_tokens(load) * 2 * (2 * shape.widest / load.devices + 2 * shape.hidden)
    logits = _MOST_SEQUENCES * shape.vocabulary * 4
    return int(activations + logits + seen + (_GPU_FIXED if load.device == "gpu" else _CPU_FIXED))


def _step_tokens(load: Load) -> int:
    return _BATCHED_TOKENS if load.device == "gpu" else _CPU_BATCHED_TOKENS


def _steps_at_once(load: Load) -> int:
    """On GPUs vLLM begins a step before the one before it has ended, in every stage (``max_concurrent_batches``)."""
    return load.stages + 1 if load.device == "gpu" else 1


def _block_tokens(load: Load) -> int:
    return _BLOCK_TOKENS if load.device == "gpu" else _CPU_BLOCK_TOKENS


def kv_element_bytes(shape: ModelShape, load: Load) -> float:
    """Bytes of one element of the KV cache."""
    return DTYPE_BYTES[load.kv_dtype] if load.kv_dtype != "auto" else _element_bytes(load.dtype)


def _element_bytes(dtype: str) -> float:
    """Bytes of one element of what the model computes in: as stored, or 16 bits for more."""
    return DTYPE_BYTES[dtype] if dtype != "auto" else 2.0


def _longest(needed: Callable[[int], int], cache: float, most: int, block: int) -> int:
    """The largest number of tokens (whole blocks) whose cache fits, by bisection: the need grows with the length."""
    if needed(most) <= cache:
        return most
    low, high = 0, most // block
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle * block) <= cache else (low, middle - 1)
    return low * block


def _mend(load: Load) -> str:
    if load.device == "gpu":
        return (
            "Use a larger GPU, more of them (engine.tensor_parallel), a smaller or quantised model, "
            "or a shorter engine.max_model_len."
        )
    return "Give the machine more memory, use a smaller model, or set a shorter engine.max_model_len."


def _of(adapters: int) -> str:
    return f", {_gib(adapters)} of slots for adapters" if adapters else ""


def _gib(count: float) -> str:
    return f"{count / GIB:.2f} GiB"
