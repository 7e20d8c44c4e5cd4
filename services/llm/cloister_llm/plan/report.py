"""The plan in words, and as the block of ``values.yaml`` (or of a settings file) that follows from it."""

from typing import Any

import yaml

from cloister_llm.plan.capacity import GIB, Capacity, Load
from cloister_llm.plan.shape import ModelShape

__all__ = ["describe", "engine_values"]


def engine_values(capacity: Capacity, load: Load, *, dtype: str) -> dict[str, Any]:
    """The ``engine`` settings of a plan, with keys as in `cloister_llm.settings`."""
    values: dict[str, Any] = {
        "device": load.device,
        "dtype": dtype,
        "max_model_len": capacity.context,
        "max_num_seqs": capacity.max_num_seqs,
    }
    if load.kv_dtype != "auto":
        values["kv_cache_dtype"] = load.kv_dtype
    if load.device == "cpu":
        values["kv_cache_gib"] = round(capacity.kv_cache / GIB - 0.005, 2)
    else:
        values["gpu_memory_utilization"] = load.share
        values["tensor_parallel"] = load.devices
    return values


def describe(shape: ModelShape, capacity: Capacity, load: Load, *, name: str, path: str, dtype: str) -> str:
    """The whole report: the numbers as comments, then the YAML block they lead to."""
    attention = "latent" if shape.latent_dim else f"{shape.kv_heads} key-value heads of {shape.head_dim}"
    if shape.sliding_layers:
        attention += f", {shape.sliding_layers} of {shape.layers} layers slide over {shape.window} tokens"
    each = " each" if load.devices > 1 else ""
    devices = f"{load.devices} x " if load.devices > 1 else ""
    lines = [
        f"{shape.model_type}: {shape.parameters / 1e9:.2f} billion parameters "
        f"({shape.active_parameters / 1e9:.2f} active), {shape.layers} layers, {attention}",
        f"{load.device}: {devices}{load.memory_bytes / GIB:.2f} GiB",
        f"weights {capacity.weights / GIB:.2f} GiB{each}, workspace {capacity.workspace / GIB:.2f} GiB, "
        f"KV cache {capacity.kv_cache / GIB:.2f} GiB{each}",
        f"KV cache per token {capacity.kv_per_token / 1024:.1f} KiB; per conversation of {capacity.context} tokens "
        f"{capacity.conversation / GIB:.3f} GiB",
        f"{capacity.conversations} conversation(s) of full length at once; the model's own limit is "
        f"{shape.max_context} tokens",
    ]
    values = {"model": {"name": name, "path": path}, "engine": engine_values(capacity, load, dtype=dtype)}
    block = yaml.safe_dump(values, sort_keys=False)
    return "\n".join(f"# {line}" for line in lines) + "\n" + block
