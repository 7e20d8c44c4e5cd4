"""How fast a model answers on an accelerator, by the roofline (Williams et al., CACM 52(4), 2009): an estimate.

A step gives every running conversation one token. It reads the weights once and each conversation's keys, values and
states, and multiplies: what takes longer counts. Reading a prompt multiplies. Nobody reaches a data sheet's figures, so
the estimate takes the shares below of them, and adds what devices tell each other; the limit is the roofline itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cloister_llm.plan.accelerators import Accelerator
from cloister_llm.plan.capacity import Load, kv_element_bytes
from cloister_llm.plan.layers import Attention, Latent
from cloister_llm.plan.quantisation import read_scheme
from cloister_llm.plan.shape import DTYPE_BYTES, ModelShape

__all__ = ["Estimate", "Habits", "Speed", "estimate"]

_BANDWIDTH_SHARE = 0.75
"""Of its memory's bandwidth that kernels of good engines get from an accelerator while they decode."""
_MATRIX_SHARE = 0.5
"""Of its dense matrix throughput that they get for a prompt of some thousand tokens."""
_EXCHANGE_SECONDS = 8e-6
"""Until devices have begun to exchange a layer's sums, twice in each layer."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What people do, for the number of them that are served."""

    think_seconds: float = 60.0
    """From the end of an answer to the next question."""
    question_tokens: int = 500
    """New in a prompt; what was said before is in the prefix cache."""
    answer_tokens: int = 400
    least_rate: float = 10.0
    """Tokens a second that everyone gets at least; 10 is faster than people read."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens a second, and people. Estimated but for the limits."""

    context: int
    """Tokens that each conversation has when these speeds hold."""
    one_stream: float
    one_stream_limit: float
    """By the roofline, with all of the bandwidth and throughput."""
    streams: int
    """As many as the cache holds at this context, and as one step computes."""
    many_streams: float
    """Together."""
    many_streams_limit: float
    prompt_seconds: float
    """To read a prompt of the whole context."""
    prompt_rate: float
    """Tokens of prompts a second."""
    users: int
    """Who think, ask and read by turns, with the least rate for each; at this context."""
    users_at_once: int
    """Of those, with an answer under way."""


class Speed:
    """A model on so many accelerators.

    Args:
        shape: The model.
        weights: Bytes of each weight by name.
        load: Devices and types.
        accelerator: One of them.
    """

    def __init__(self, shape: ModelShape, weights: Mapping[str, float], load: Load, accelerator: Accelerator) -> None:
        self._shape = shape
        self._load = load
        self._accelerator = accelerator
        inventory = shape.inventory
        size = {"expert": 0.0, "tower": 0.0, "embedding": 0.0, "table": 0.0, "all": 0.0}
        for weight in inventory.weights:
            size["all"] += weights[weight.name]
            if weight.part in size:
                size[weight.part] += weights[weight.name]
        # An embedding that is also the head is read whole; of another one, and of tables, a row for each token.
        tied = not any(weight.part == "head" for weight in inventory.weights)
        self._experts = size["expert"]
        looked_up = size["table"] + (0 if tied else size["embedding"])
        self._always = size["all"] - size["expert"] - size["tower"] - looked_up
        self._multiplied = shape.active_parameters - inventory.count("table", *(() if tied else ("embedding",)))

    @cached_property
    def _flops(self) -> float:
        """Of one device, a second."""
        scheme = read_scheme(self._shape.configuration.quantisation)
        computes = "fp16" if self._load.dtype == "float32" else scheme.computes
        return self._accelerator.matrix_tflops(computes) * 1e12

    def weights_read(self, streams: int) -> float:
        """Bytes of weights that one step of so many streams reads: of the experts, those that any of them chose."""
        shape = self._shape
        idle = (1 - shape.chosen_experts / shape.experts) ** streams if shape.experts else 1.0
        return self._always + self._experts * (1 - idle)

    def conversation_read(self, tokens: int) -> float:
        """Bytes that one more token reads of a conversation of so many, on each device of a stage."""
        kv, ranks = kv_element_bytes(self._shape, self._load), self._load.devices
        chosen = next((p.chosen for kept in self._shape.kept for p in kept if isinstance(p, Latent) and p.chosen), None)
        read = self._shape.kv_bytes(tokens, kv_dtype_bytes=kv, ranks=ranks)
        if chosen and tokens > chosen:  # the index is read whole, what it points at alone
            index = self._shape.kv_bytes(1, kv_dtype_bytes=0, ranks=ranks)
            read = self._shape.kv_bytes(chosen, kv_dtype_bytes=kv, ranks=ranks) + index * (tokens - chosen)
        each = DTYPE_BYTES.get(self._load.dtype, 2.0)
        return read + 2 * self._shape.state_bytes(dtype_bytes=each, ranks=ranks)  # states are read and written

    def step_seconds(self, streams: int, tokens: int, *, limit: bool = False) -> float:
        """One step, in which each of ``streams`` conversations of ``tokens`` gets one more.

        Stages of a pipeline work on different conversations at a time, and one conversation passes all of them.
        """
        ranks, at_once = self._load.devices, max(1.0, streams / self._load.stages)
        share = 1.0 if limit else _BANDWIDTH_SHARE
        moved = self.weights_read(max(1, round(at_once))) / ranks + at_once * self.conversation_read(tokens)
        reading = moved / (self._accelerator.bandwidth_gbs * 1e9 * share)
        computing = at_once * self._token_flops(tokens) / ranks / (self._flops * (1.0 if limit else _MATRIX_SHARE))
        return max(reading, computing) + (0.0 if limit else self._exchange(at_once))

    def prompt_seconds(self, tokens: int) -> float:
        """Reading a prompt of so many tokens, when nothing else is to do."""
        flops = tokens * self._token_flops(tokens // 2)  # each token looks at those before it: half of them, on average
        computing = flops / self._load.devices / (self._flops * _MATRIX_SHARE)
        return max(computing + self._exchange(tokens), self.step_seconds(1, tokens))

    def _token_flops(self, tokens: int) -> float:
        """Two for each parameter; and two for each element of keys, and of values, that each head looks at."""
        looked = 0.0
        for part in (part for kept in self._shape.kept for part in kept):
            if isinstance(part, Attention):
                seen = min(tokens, part.window) if part.window else tokens
                looked += 2 * self._shape.heads * (part.key_dim + part.value_dim) * seen
            elif isinstance(part, Latent):
                looked += 4 * self._shape.heads * part.elements * min(tokens, part.chosen or tokens)
        return 2 * self._multiplied + looked

    def _exchange(self, tokens: float) -> float:
        """Summing each layer's results over the devices, twice: a ring, of which a link carries half each way."""
        ranks = self._load.devices
        if ranks == 1:
            return 0.0
        each = 2 * (ranks - 1) / ranks * tokens * self._shape.hidden * 2 / (self._accelerator.link_gbs / 2 * 1e9)
        return 2 * self._shape.layers * (each + _EXCHANGE_SECONDS)


def estimate(speed: Speed, *, context: int, conversations: int, stages: int, habits: Habits) -> Estimate:
    """What to expect with conversations of ``context`` tokens, of which ``conversations`` fit."""
    streams = max(1, conversations)
    prompt = speed.prompt_seconds(context)
    users, at_once = _users(speed, context, streams, stages, habits)
    return Estimate(
        context=context,
        one_stream=1 / speed.step_seconds(1, context),
        one_stream_limit=1 / speed.step_seconds(1, context, limit=True),
        streams=streams,
        many_streams=streams / speed.step_seconds(streams, context),
        many_streams_limit=streams / speed.step_seconds(streams, context, limit=True),
        prompt_seconds=prompt,
        prompt_rate=context / prompt * stages,
        users=users,
        users_at_once=at_once,
    )


def _users(speed: Speed, context: int, most: int, stages: int, habits: Habits) -> tuple[int, int]:
    """How many people, and how many of them at once, by the law of a closed system (users = streams * cycle / answer).

    While one answer is written, each of the other streams has a question read too.
    """
    question = speed.prompt_seconds(habits.question_tokens) / stages

    def answer(streams: int) -> float:
        return habits.answer_tokens * speed.step_seconds(streams, context) + streams * question

    low, high = 0, most  # the most streams that still get the least rate: the answer takes longer with each
    while low < high:
        middle = (low + high + 1) // 2
        if habits.answer_tokens / answer(middle) >= habits.least_rate:
            low = middle
        else:
            high = middle - 1
    if not low:
        return 0, 0
    seconds = answer(low)
    return int(low * (habits.think_seconds + seconds) / seconds), low
