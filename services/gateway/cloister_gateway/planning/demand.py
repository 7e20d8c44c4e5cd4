"""How many answers are under way at once, and how many pods carry them.

Little's law: what is under way is what comes in a second times how long it takes. How long an answer takes depends on
how many are under way in its pod, so the two are solved for together: with ``l`` answers in a pod a token of each takes
``t1 + c·(l − 1)`` seconds, from what one stream and many reach.
"""

import math
from typing import NamedTuple

from cloister_gateway.planning.forecast import Tokens
from cloister_gateway.planning.question import Pod

__all__ = ["Demand", "demand_of"]

_MOST_PODS = 1_000_000


class Demand(NamedTuple):
    """What a rate of turns asks of pods.

    Attributes:
        turns_per_second: That come.
        pods: That carry them; at least one.
        at_once: Answers under way, in all pods.
        prompt_seconds: Until a turn's first token, without waiting.
        tokens_per_second: Of one answer.
        answer_seconds: From a question to its answer's end.
    """

    turns_per_second: float
    pods: int
    at_once: float
    prompt_seconds: float
    tokens_per_second: float
    answer_seconds: float


def demand_of(turns_per_second: float, turn: Tokens, pod: Pod) -> Demand:
    """The fewest pods that carry ``turns_per_second`` turns of the mean ``turn``, none with more answers than it can.

    Raises:
        ValueError: More than a million pods would be needed.
    """
    prompt_seconds = turn.computed / pod.prompt_rate
    alone = 1 / pod.one_stream
    full = pod.streams / pod.many_streams
    slower = (full - alone) / (pod.streams - 1) if pod.streams > 1 else 0.0

    def under_way(pods: int) -> float:
        """Answers at once in each of so many pods; infinite where more come than go."""
        rate = turns_per_second / pods
        alone_in_it = rate * (prompt_seconds + turn.output * alone)
        if alone_in_it <= 1:
            return alone_in_it
        room = 1 - rate * turn.output * slower
        return rate * (prompt_seconds + turn.output * (alone - slower)) / room if room > 0 else math.inf

    low, high = 0, 1
    while under_way(high) > pod.streams:
        low, high = high, high * 2
        if high > _MOST_PODS:
            raise ValueError(f"more than {_MOST_PODS:,} pods would be needed: the load or the pod is not what is meant")
    while high - low > 1:
        middle = (low + high) // 2
        if under_way(middle) > pod.streams:
            low = middle
        else:
            high = middle
    each = under_way(high)
    token = alone + slower * max(0.0, each - 1)
    return Demand(
        turns_per_second,
        high,
        each * high,
        prompt_seconds,
        1 / token,
        prompt_seconds + turn.output * token,
    )
