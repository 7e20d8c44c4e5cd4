"""The plan in words, as JSON, and as the block of ``values.yaml`` (or of a settings file) that follows from it."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import yaml

from cloister_llm.plan.capacity import GIB, Capacity, Load
from cloister_llm.plan.comparison import Candidate
from cloister_llm.plan.layers import State
from cloister_llm.plan.quantisation import read_scheme
from cloister_llm.plan.shape import ModelShape
from cloister_llm.plan.speed import Estimate

__all__ = ["chart_values", "describe", "describe_candidates", "engine_values", "plan_json"]

_STAGES = "# A pod has no setting for stages of a pipeline: this is a size to order by, not yet to run."
_FULL = (
    "New questions wait while less than a tenth of the cache is free; when answers under way have filled that too, the "
    "newest is computed again later."
)


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


def chart_values(capacity: Capacity, load: Load, *, name: str, dtype: str, images: int = 0) -> dict[str, Any]:
    """The same as the chart's values: it makes device, context and GPUs of keys of its own."""
    engine = engine_values(capacity, load, dtype=dtype)
    for key in ("device", "max_model_len", "tensor_parallel"):
        engine.pop(key, None)
    entry: dict[str, Any] = {"name": name, "contextTokens": capacity.context}
    if images:
        entry["images"] = images
    if load.device == "gpu":
        entry |= {"gpus": load.devices, "image": {"repository": "llm-cuda"}}
    entry |= {"weights": {"folder": name}, "config": {"engine": engine}}
    if load.adapter_slots:
        entry["adapters"] = _slots(load)
    return {"llm": {"models": {_key(name): entry}}}


def _slots(load: Load) -> dict[str, Any]:
    """The slots for adapters; the folder, or the claim, is for the operator to name."""
    return {"slots": load.adapter_slots, "rank": load.adapter_rank}


def _key(name: str) -> str:
    """A short key, as the chart wants it for the names of its objects."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].strip("-") or "model"


def describe(
    shape: ModelShape,
    capacity: Capacity,
    load: Load,
    *,
    name: str,
    path: str,
    dtype: str,
    estimate: Estimate | None = None,
    images: int = 0,
) -> str:
    """The whole report: the numbers as comments, then the YAML blocks they lead to."""
    each = " each" if load.devices * load.stages > 1 else ""
    lines = [
        *model_lines(shape),
        f"{load.device}: {_pieces(load)}{load.memory_bytes / GIB:.2f} GiB",
        f"weights {capacity.weights / GIB:.2f} GiB{each}, "
        + (f"adapters {capacity.adapters / GIB:.2f} GiB{each}, " if capacity.adapters else "")
        + f"workspace {capacity.workspace / GIB:.2f} GiB, KV cache {capacity.kv_cache / GIB:.2f} GiB{each}",
        f"KV cache per token {capacity.kv_per_token / 1024:.1f} KiB; per conversation of {capacity.context} tokens "
        f"{capacity.conversation / GIB:.3f} GiB",
        f"{capacity.conversations} conversation(s) of full length at once; the model's own limit is "
        f"{shape.max_context} tokens",
        f"up to {capacity.max_num_seqs} shorter ones are computed at once. {_FULL}",
    ]
    if estimate is not None:
        lines += _speed_lines(estimate)
    values: dict[str, Any] = {
        "model": {"name": name, "path": path},
        "engine": engine_values(capacity, load, dtype=dtype),
    }
    if load.adapter_slots:
        values["lora"] = {"folder": "adapters", **_slots(load)}
    block = yaml.safe_dump(values, sort_keys=False)
    chart = yaml.safe_dump(chart_values(capacity, load, name=name, dtype=dtype, images=images), sort_keys=False)
    text = "\n".join(f"# {line}" for line in lines)
    if load.stages > 1:
        return f"{text}\n{_STAGES}\n{block}"
    return f"{text}\n{block}# The same in the values.yaml of the chart:\n{chart}"


def _pieces(load: Load) -> str:
    if load.stages > 1:
        return f"{load.devices} (tensor) x {load.stages} (pipeline) x "
    return f"{load.devices} x " if load.devices > 1 else ""


def model_lines(shape: ModelShape) -> list[str]:
    """What kind of model it is, in two lines."""
    lines = [
        f"{shape.model_type}: {shape.parameters / 1e9:.2f} billion parameters "
        f"({shape.active_parameters / 1e9:.2f} active), {shape.layers} layers, {_kinds(shape)}"
    ]
    if shape.encoder_parameters:
        lines.append(f"of those {shape.encoder_parameters / 1e9:.2f} billion in encoders of images or sound")
    scheme = read_scheme(shape.configuration.quantisation)
    if scheme.method:
        size = f"{scheme.bits:.2f} bits a quantised weight" if scheme.known else "unknown, so counted as not quantised"
        lines.append(f"quantised by {scheme.method}: {size}")
    if shape.inventory.note:
        lines.append(shape.inventory.note)
    return lines


def _kinds(shape: ModelShape) -> str:
    kinds = []
    if shape.latent_dim:
        kinds.append(f"latent attention of {shape.latent_dim}")
    elif shape.kv_heads and shape.state_layers < shape.layers:
        kinds.append(f"{shape.kv_heads} key-value heads of {shape.head_dim}")
    if shape.sliding_layers:
        kinds.append(f"{shape.sliding_layers} of {shape.layers} layers slide over {shape.window} tokens")
    if shape.state_layers:
        kinds.append(f"{shape.state_layers} of {shape.layers} layers keep a state of fixed size")
    return ", ".join(kinds)


def _speed_lines(estimate: Estimate) -> list[str]:
    return [
        f"estimate at {estimate.context} tokens each: {estimate.one_stream:.0f} tokens/s for one stream (roofline "
        f"{estimate.one_stream_limit:.0f}), {estimate.many_streams:.0f} for {estimate.streams} together (roofline "
        f"{estimate.many_streams_limit:.0f}); a prompt of full length is read in {estimate.prompt_seconds:.2f} s",
        f"estimate: {estimate.users} users, of whom {estimate.users_at_once} wait for or read an answer at a time",
    ]


def describe_candidates(shape: ModelShape, candidates: list[Candidate]) -> str:
    """The accelerators side by side, and under them why some do not fit."""
    header = (
        "accelerator",
        "devices",
        "tensor",
        "pipeline",
        "longest",
        "context",
        "at once",
        "tok/s 1",
        "tok/s all",
        "prompt s",
        "users",
    )
    rows = [header, *(_row(candidate) for candidate in candidates)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    known = [(item.accelerator, item.why) for item in candidates if item.accelerator is not None]
    refused = [f"{accelerator.name}: {why}" for accelerator, why in known if why]
    notes = [f"{accelerator.name}: {accelerator.note}" for accelerator, _ in known if accelerator.note]
    legend = [
        "longest: tokens of one conversation with the whole cache. at once: conversations of the context.",
        "tok/s 1, tok/s all, prompt s, users: estimates by the roofline, at the context, for one stream and for all.",
        "plan --accelerator KEY prints the settings for one of them.",
    ]
    blocks = [model_lines(shape), lines, legend, refused, notes]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _cells(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """The name to the left, numbers to the right."""
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _row(candidate: Candidate) -> tuple[str, ...]:
    key = candidate.accelerator.key if candidate.accelerator is not None else "-"
    if candidate.capacity is None or candidate.load is None or candidate.estimate is None:
        return (key, "does not fit", *["-"] * 9)
    load, capacity, told = candidate.load, candidate.capacity, candidate.estimate
    return (
        key,
        str(load.devices * load.stages),
        str(load.devices),
        str(load.stages),
        str(candidate.longest),
        str(capacity.context),
        str(capacity.conversations),
        f"{told.one_stream:.0f}",
        f"{told.many_streams:.0f}",
        f"{told.prompt_seconds:.2f}",
        str(told.users),
    )


def plan_json(
    shape: ModelShape, weights: int, candidates: list[Candidate], *, name: str, dtype: str, images: int = 0
) -> Mapping[str, Any]:
    """Everything that the text says and more, for programs. Bytes are per device."""
    scheme = read_scheme(shape.configuration.quantisation)
    return {
        "model": {
            "name": name,
            "type": shape.model_type,
            "parameters": shape.parameters,
            "active_parameters": shape.active_parameters,
            "encoder_parameters": shape.encoder_parameters,
            "layers": shape.layers,
            "sliding_layers": shape.sliding_layers,
            "window": shape.window,
            "state_layers": shape.state_layers,
            "kv_heads": shape.kv_heads,
            "latent_dim": shape.latent_dim,
            "experts": shape.experts,
            "experts_per_token": shape.chosen_experts,
            "max_context": shape.max_context,
            "images": images,
            "weights_bytes": weights,
            "state_bytes": shape.state_bytes(dtype_bytes=2.0)
            if any(isinstance(part, State) for kept in shape.kept for part in kept)
            else 0,
            "quantisation": asdict(scheme) if scheme.method else None,
            "note": shape.inventory.note,
        },
        "plans": [_candidate_json(candidate, name=name, dtype=dtype, images=images) for candidate in candidates],
    }


def _candidate_json(candidate: Candidate, *, name: str, dtype: str, images: int) -> dict[str, Any]:
    accelerator, load, capacity = candidate.accelerator, candidate.load, candidate.capacity
    told: dict[str, Any] = {
        "accelerator": accelerator.model_dump() if accelerator is not None else None,
        "fits": capacity is not None,
        "why": candidate.why or None,
        "note": accelerator.note if accelerator is not None else None,
    }
    if load is None or capacity is None:
        return told
    return told | {
        "device": load.device,
        "memory_bytes": load.memory_bytes,
        "tensor_parallel": load.devices,
        "pipeline_parallel": load.stages,
        "longest_context": candidate.longest,
        "capacity": asdict(capacity),
        "estimate": asdict(candidate.estimate) if candidate.estimate is not None else None,
        "values": chart_values(capacity, load, name=name, dtype=dtype, images=images) if load.stages == 1 else None,
    }
