"""``python -m cloister_llm plan``: what an operator asks before ordering hardware, and before writing values."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

from cloister_common.settings import SettingsError

from cloister_llm.families import default_images
from cloister_llm.model_folder import read_config
from cloister_llm.plan import Load, PlanError, plan_capacity, read_shape, weight_bytes
from cloister_llm.plan.accelerators import Accelerator, find
from cloister_llm.plan.capacity import GIB
from cloister_llm.plan.comparison import Candidate, Wishes, compare, on_accelerator
from cloister_llm.plan.report import describe, describe_candidates, plan_json
from cloister_llm.plan.speed import Habits
from cloister_llm.plan.weights import weights_by_name
from cloister_llm.settings import AdapterRank

__all__ = ["add_options", "make_plan"]


def add_options(plan: argparse.ArgumentParser) -> None:
    """The options of the command."""
    plan.add_argument("--model", type=Path, required=True, help="model folder; config.json is enough")
    plan.add_argument("--name", help="public name of the model (default: the folder's name)")
    where = plan.add_mutually_exclusive_group()
    where.add_argument(
        "--compare", metavar="KEYS", help="accelerators side by side: keys with commas, or all (default)"
    )
    where.add_argument("--accelerator", metavar="KEY", help="one accelerator of the catalogue, with settings for it")
    where.add_argument("--gpu-memory", type=float, metavar="GIB", help="memory of one GPU")
    where.add_argument("--cpu-memory", type=float, metavar="GIB", help="memory of the machine or container")
    plan.add_argument("--gpus", type=int, help="GPUs that share the model (default: 1; with accelerators, the fewest)")
    plan.add_argument("--most-gpus", type=int, default=8, help="most GPUs of one pod that are tried")
    plan.add_argument("--utilization", type=float, default=0.9, help="share of a GPU's memory that is used")
    plan.add_argument("--context", type=int, metavar="TOKENS", help="longest conversation (default: what fits)")
    plan.add_argument("--conversations", type=int, metavar="N", help="of full length at once (default: what fits)")
    plan.add_argument("--dtype", default="auto", choices=["auto", "bfloat16", "float16", "float32"])
    plan.add_argument("--kv-dtype", default="auto", choices=["auto", "fp8", "fp8_e4m3", "fp8_e5m2"])
    plan.add_argument("--lora-slots", type=int, default=0, metavar="N", help="adapters that are ready at once")
    ranks = get_args(AdapterRank)
    plan.add_argument("--lora-rank", type=int, default=16, choices=ranks, help="the largest rank among them")
    habits = Habits()
    plan.add_argument("--think", type=float, default=habits.think_seconds, metavar="SECONDS", help="between turns")
    plan.add_argument("--question", type=int, default=habits.question_tokens, metavar="TOKENS", help="new in a prompt")
    plan.add_argument("--answer", type=int, default=habits.answer_tokens, metavar="TOKENS", help="of an answer")
    plan.add_argument("--least-rate", type=float, default=habits.least_rate, metavar="TOKENS/S", help="for each user")
    plan.add_argument("--json", action="store_true", help="for programs")


def make_plan(arguments: argparse.Namespace) -> str:
    """What the command prints.

    Raises:
        SettingsError: No model, or an option that makes no sense.
        PlanError: A model that cannot be planned.
        DoesNotFit: With the numbers; not where accelerators are compared.
    """
    _check(arguments)
    shape = read_shape(read_config(arguments.model))
    weights = weight_bytes(arguments.model, shape, arguments.dtype)
    name = arguments.name or arguments.model.resolve().name
    images = default_images(arguments.model)
    load = Load(
        "cpu" if arguments.cpu_memory else "gpu",
        int((arguments.gpu_memory or arguments.cpu_memory or 0) * GIB),
        devices=1 if arguments.cpu_memory else arguments.gpus or 1,
        share=arguments.utilization,
        context=arguments.context,
        conversations=arguments.conversations,
        kv_dtype=arguments.kv_dtype,
        dtype=arguments.dtype,
        adapter_slots=arguments.lora_slots,
        adapter_rank=arguments.lora_rank,
    )
    if load.memory_bytes:
        capacity = plan_capacity(shape, weights, load)
        candidates = [Candidate(None, load, capacity, capacity.context, None, "")]
    else:
        habits = Habits(arguments.think, arguments.question, arguments.answer, arguments.least_rate)
        named = find(arguments.accelerator or arguments.compare or "all")
        by_name = weights_by_name(shape, arguments.dtype)
        if arguments.gpus:
            candidates = [
                on_accelerator(shape, weights, by_name, accelerator, _on(accelerator, load), habits)
                for accelerator in named
            ]
        else:
            candidates = compare(shape, weights, by_name, named, Wishes(load, habits, arguments.most_gpus))
    if arguments.json:
        told = plan_json(shape, weights, candidates, name=name, dtype=arguments.dtype, images=images)
        return json.dumps(told, indent=2) + "\n"
    first = candidates[0]
    if arguments.accelerator and first.why:
        raise PlanError(f"It does not fit on {arguments.accelerator}: {first.why}")
    if (load.memory_bytes or arguments.accelerator) and first.capacity is not None and first.load is not None:
        return describe(
            shape,
            first.capacity,
            first.load,
            name=name,
            path=str(arguments.model),
            dtype=arguments.dtype,
            estimate=first.estimate,
            images=images,
        )
    return describe_candidates(shape, candidates)


def _on(accelerator: Accelerator, load: Load) -> Load:
    return replace(load, memory_bytes=int(accelerator.usable_gib * GIB))


def _check(arguments: argparse.Namespace) -> None:
    """Numbers that make no sense are named before they make sums."""
    above_zero = ("gpu_memory", "cpu_memory", "gpus", "most_gpus", "context", "conversations", "answer")
    for option in (*above_zero, "question", "least_rate"):
        value = getattr(arguments, option)
        if value is not None and value <= 0:
            raise SettingsError(f"--{option.replace('_', '-')} must be more than 0.")
    for option in ("lora_slots", "think"):
        if getattr(arguments, option) < 0:
            raise SettingsError(f"--{option.replace('_', '-')} must not be less than 0.")
    if not 0 < arguments.utilization <= 0.98:
        raise SettingsError("--utilization must be more than 0 and at most 0.98, as engine.gpu_memory_utilization.")
