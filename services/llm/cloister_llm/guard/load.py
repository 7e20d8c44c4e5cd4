"""What this pod tells the gateways of itself, for their choice of the pod that gets the next request."""

from prometheus_client import REGISTRY, CollectorRegistry

__all__ = ["LOAD_PATH", "load_of_engine"]

LOAD_PATH = "/cloister/load"
_WAITING = "vllm:num_requests_waiting"
_RUNNING = "vllm:num_requests_running"


def load_of_engine(registry: CollectorRegistry = REGISTRY) -> dict[str, int]:
    """The requests that vLLM's engine runs and has in its queue, by its own metrics.

    They are brought up to date with each step of the engine. Where there are none (``disable_log_stats``), both are 0.
    """
    found = {_WAITING: 0, _RUNNING: 0}
    for metric in registry.restricted_registry(tuple(found)).collect():
        found[metric.name] = int(sum(sample.value for sample in metric.samples))
    return {"running": found[_RUNNING], "waiting": found[_WAITING]}
