"""The vLLM plugin (entry point ``vllm.general_plugins``): puts our chat renderer in the place of vLLM's, says how its
processes begin, and has its engine say how far it is.

vLLM loads it in every one of its processes before the engine is built. A plugin that fails to load is only logged by
vLLM, so `cloister_llm.guard` checks at start that the renderer in use is really ours.
"""

import logging

from cloister_common.logs import configure_our_loggers, json_handler, report_failures

from cloister_llm.processes import share
from cloister_llm.starting.phases import follow

__all__ = ["NAME", "log_handler", "register"]

NAME = "cloister_llm"
"""The entry point's name; the launcher allows this plugin and no other (``VLLM_PLUGINS``)."""


def register() -> None:
    """Registers the guarded renderer for Hugging Face tokenizers. May be called more than once."""
    from vllm.renderers.registry import RENDERER_REGISTRY

    RENDERER_REGISTRY.renderers["hf"] = ("cloister_llm.rendering.vllm_adapter", "GuardedRenderer")
    share()
    follow()


def log_handler(mark: str) -> logging.Handler:
    """The handler that each of vLLM's processes makes when it sets up logging (``logging_config`` names it).

    vLLM does that first of all, so this is also where a process begins to report what ends it in our format.
    """
    configure_our_loggers("llm")
    report_failures()
    return json_handler("llm", mark=mark)
