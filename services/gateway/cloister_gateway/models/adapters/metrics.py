"""What is counted of adapters. Their calls are counted as every model's are, under their public names."""

from functools import cache

from prometheus_client import Counter, Gauge

__all__ = ["PODS", "loads", "short", "version_calls"]

_LOADS = Counter("cloister_adapter_loads_total", "Adapters that pods were asked to load.", ["adapter", "outcome"])
_CALLS = Counter("cloister_adapter_calls_total", "Calls to llm pods by version.", ["adapter", "version"])
PODS = Gauge("cloister_adapter_pods", "Pods that have a version loaded.", ["adapter", "version"])

_SHORT = len("sha256:") + 12


def short(digest: str) -> str:
    """A digest as metrics have it: enough of it to tell the versions of one adapter apart."""
    return digest[:_SHORT]


@cache
def loads(adapter: str, outcome: str) -> Counter:
    """The counter of an adapter's loads that ended so."""
    return _LOADS.labels(adapter, outcome)


@cache
def version_calls(adapter: str, digest: str) -> Counter:
    """The counter of a version's calls."""
    return _CALLS.labels(adapter, short(digest))
