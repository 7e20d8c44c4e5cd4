"""One model on every accelerator: what fits, on how many devices, how long and how many conversations, how fast."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cloister_llm.plan.accelerators import Accelerator
from cloister_llm.plan.capacity import GIB, Capacity, DoesNotFit, Load, plan_capacity
from cloister_llm.plan.shape import ModelShape
from cloister_llm.plan.speed import Estimate, Habits, Speed, estimate

__all__ = ["Candidate", "Wishes", "compare", "on_accelerator", "sizes"]

_SIZES = [(1, 1), (2, 1), (1, 2), (4, 1), (2, 2), (1, 4), (8, 1), (4, 2), (2, 4), (1, 8)]
"""Tensor and pipeline sizes of one machine, the fewest devices first, and of as many the fastest for one stream."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked of every accelerator alike."""

    load: Load
    """With the types, the context and the conversations; its memory and devices are the accelerator's."""
    habits: Habits
    most_devices: int = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """One accelerator, in as many pieces as the model needs."""

    accelerator: Accelerator | None
    """None where only an amount of memory was named."""
    load: Load | None
    """With its memory and sizes; None where nothing fits."""
    capacity: Capacity | None
    longest: int
    """Tokens of one conversation that has the whole cache."""
    estimate: Estimate | None
    why: str
    """Why it does not fit; empty where it does."""


def sizes(shape: ModelShape, most: int) -> Iterator[tuple[int, int]]:
    """Tensor and pipeline sizes that the model can be shared out by.

    Heads are not split, nor do layers stand on two stages (vLLM's ``verify_with_parallel_config``).
    """
    for tensor, pipeline in _SIZES:
        whole = shape.heads % tensor == 0 and (
            not shape.kv_heads or shape.kv_heads % tensor == 0 or tensor % shape.kv_heads == 0
        )
        if tensor * pipeline <= most and whole and shape.layers >= pipeline:
            yield tensor, pipeline


def compare(
    shape: ModelShape, weights: int, by_name: Mapping[str, float], accelerators: list[Accelerator], wishes: Wishes
) -> list[Candidate]:
    """Each accelerator in the fewest pieces that hold the model and the wishes."""
    return [_smallest(shape, weights, by_name, accelerator, wishes) for accelerator in accelerators]


def _smallest(
    shape: ModelShape, weights: int, by_name: Mapping[str, float], accelerator: Accelerator, wishes: Wishes
) -> Candidate:
    why = "its heads and layers cannot be shared out"
    for tensor, pipeline in sizes(shape, wishes.most_devices):
        load = _load(accelerator, wishes.load, tensor, pipeline)
        try:
            return on_accelerator(shape, weights, by_name, accelerator, load, wishes.habits)
        except DoesNotFit as error:
            why = f"{tensor * pipeline} x {accelerator.usable_gib:g} GiB: {error}"
    return Candidate(accelerator, None, None, 0, None, why)


def _load(accelerator: Accelerator, wished: Load, tensor: int, pipeline: int) -> Load:
    memory = int(accelerator.usable_gib * GIB)
    return replace(wished, device="gpu", memory_bytes=memory, devices=tensor, stages=pipeline)


def on_accelerator(
    shape: ModelShape,
    weights: int,
    by_name: Mapping[str, float],
    accelerator: Accelerator,
    load: Load,
    habits: Habits,
) -> Candidate:
    """What fits and how fast it is, with sizes that are given.

    Raises:
        DoesNotFit: With the numbers.
    """
    capacity = plan_capacity(shape, weights, load)
    alone = plan_capacity(shape, weights, replace(load, context=None, conversations=None))
    speed = Speed(shape, by_name, load, accelerator)
    streams = min(capacity.conversations, capacity.max_num_seqs)
    told = estimate(speed, context=capacity.context, conversations=streams, stages=load.stages, habits=habits)
    return Candidate(accelerator, load, capacity, alone.context, told, "")
