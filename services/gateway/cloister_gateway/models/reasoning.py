"""Models that think before they answer, as callers ask for it and as vLLM is told."""

from typing import Any, Literal

from cloister_common.errors import UnsupportedParameter

from cloister_gateway.models.catalog import ChatModel

__all__ = ["Effort", "check_effort", "thinking"]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""OpenAI's word for how much a model shall think."""

_LITTLE = frozenset({"none", "minimal"})


def check_effort(model: ChatModel, effort: Effort | None, *, param: str) -> None:
    """Refuses an effort that ``model`` cannot make. ``none`` is no effort, and any model can do without.

    Raises:
        UnsupportedParameter: As OpenAI refuses it, by the name of the parameter.
    """
    if effort not in {None, "none"} and "reasoning" not in model.capabilities:
        raise UnsupportedParameter(
            param,
            f"Unsupported parameter: '{param}' is not supported with the model '{model.name}', which does not think "
            f"before it answers. Leave it out, or send 'none'. (An operator says of a model that it does with "
            f"'models.{model.name}.reasoning'.)",
        )


def thinking(effort: Effort | None) -> dict[str, Any]:
    """The fields of a request to vLLM.

    Some chat templates know the effort as a word, others only whether to think, under one name or another; vLLM leaves
    out what a template does not know. Where there is a switch only, ``minimal`` is off, as ``none`` is.
    """
    if effort is None:
        return {}
    on = effort not in _LITTLE
    return {"reasoning_effort": effort, "chat_template_kwargs": {"enable_thinking": on, "thinking": on}}
