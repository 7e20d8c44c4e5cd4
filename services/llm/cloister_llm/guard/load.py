"""What this pod tells the gateways of itself, for their choice of the pod that gets the next request."""

from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

__all__ = ["LOAD_PATH", "capacity_of_engine", "load_of_engine"]

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


def capacity_of_engine(app: Any) -> dict[str, int]:
    """The tokens that vLLM's cache holds, and the requests that its engine computes at once.

    Args:
        app: vLLM's application, once its engine is there.

    Returns:
        Both, or nothing where there is no engine. A cache that several kinds of layers share has its tokens by vLLM's
        own reckoning; where that has none, its blocks say it.
    """
    client = getattr(getattr(app, "state", None), "engine_client", None)
    if client is None:
        return {}
    cache, scheduler = client.vllm_config.cache_config, client.vllm_config.scheduler_config
    tokens = cache.kv_cache_size_tokens or (cache.num_gpu_blocks or 0) * cache.block_size
    return {"tokens": int(tokens), "requests": int(scheduler.max_num_seqs)}
