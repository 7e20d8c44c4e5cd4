"""The vLLM plugin (entry point ``vllm.general_plugins``): puts our chat renderer in the place of vLLM's.

vLLM loads it in every one of its processes before the engine is built. A plugin that fails to load is only logged by
vLLM, so `cloister_llm.guard` checks at start that the renderer in use is really ours.
"""

__all__ = ["NAME", "register"]

NAME = "cloister_llm"
"""The entry point's name; the launcher allows this plugin and no other (``VLLM_PLUGINS``)."""


def register() -> None:
    """Registers the guarded renderer for Hugging Face tokenizers. May be called more than once."""
    from vllm.renderers.registry import RENDERER_REGISTRY

    RENDERER_REGISTRY.renderers["hf"] = ("cloister_llm.rendering.vllm_adapter", "GuardedRenderer")
