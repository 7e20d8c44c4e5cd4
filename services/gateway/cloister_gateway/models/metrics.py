"""What is counted of the calls to llm pods."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

__all__ = ["FIRST_TOKEN", "calls", "running"]

_CALLS = Counter("cloister_llm_calls_total", "Calls to llm pods by outcome.", ["model", "outcome"])
_RUNNING = Gauge("cloister_llm_running", "Generations open at llm pods.", ["model"])
FIRST_TOKEN = Histogram(
    "cloister_llm_first_token_seconds",
    "Seconds from the call until the first event of the stream.",
    ["model"],
    buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120),
)


@cache
def running(model: str) -> Gauge:
    """The gauge of a model. Finding it by its label costs the client library 2 µs each time."""
    return _RUNNING.labels(model)


@cache
def calls(model: str, outcome: str) -> Counter:
    """The counter of a model's calls that ended so, found as fast."""
    return _CALLS.labels(model, outcome)
