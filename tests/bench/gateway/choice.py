"""What choosing a pod costs, in microseconds of the processor: first turns of conversations, and later ones.

Both with load on the pods, so that the bound is looked at as it is in service; and round robin's price beside them, as
the least that any choice costs.
"""

import itertools
import statistics
import time
from collections.abc import Callable

from cloister_gateway.models.pods import Pod, Pods

__all__ = ["choose"]

_TOKENS = 2_000
_UNDER_WAY = 500


def choose(*, pods: int, conversations: int, rounds: int) -> None:
    """Prints a table.

    Args:
        pods: Of the model.
        conversations: That take turns.
        rounds: Turns of each, after its first.
    """
    urls = [f"http://10.0.{number // 250}.{number % 250}:8083" for number in range(pods)]
    keys = [f"conv_{number:032x}" for number in range(conversations)]
    ours = Pods(urls, outage_seconds=5)
    for key in keys[:_UNDER_WAY]:
        ours.begin(_some(ours.choose(key, tokens=_TOKENS)), _TOKENS)
    turns = itertools.cycle(ours.all)
    ours.replace(urls[:-1])
    ours.replace(urls)  # Pods came and went: nothing is remembered.
    first = _microseconds(lambda key: ours.choose(key, tokens=_TOKENS), keys)
    later = [_microseconds(lambda key: ours.choose(key, tokens=_TOKENS), keys) for _ in range(rounds)]
    robin = [_microseconds(lambda _: next(turns), keys) for _ in range(rounds)]
    print(f"choosing among {pods} pods, {conversations} conversations, µs of the processor each")
    print(f"  first turn     {first:6.1f}")
    print(f"  later turns    {statistics.median(later):6.1f}   median of {rounds} rounds")
    print(f"  all of them    {(first + sum(later)) / (rounds + 1):6.1f}")
    print(f"  round robin    {statistics.median(robin):6.1f}")


def _microseconds(choice: Callable[[str], Pod | None], keys: list[str]) -> float:
    started = time.process_time()
    for key in keys:
        choice(key)
    return (time.process_time() - started) / len(keys) * 1e6


def _some(pod: Pod | None) -> Pod:
    assert pod is not None
    return pod
