"""How long the prompt of a stateless call is at most, and that its pod says what it used."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from cloister_gateway.models import ChatModel
from cloister_gateway.usage import PromptSize

__all__ = ["prompt_size", "tell_usage"]

_TEMPLATE_TOKENS = 512
"""More than any chat template we know says on its own before the first message."""
_TOKENS_A_PART = 32
"""More than any puts around one message or tool."""
_TIMES_BYTES = 2
"""Tokens of a byte of the body at most: templates write tools anew, with indents."""


def prompt_size(
    model: ChatModel,
    body: Mapping[str, Any],
    size: int,
    *,
    answers: int,
    count: Callable[[str, Mapping[str, Any]], Awaitable[int]],
) -> PromptSize:
    """The size of a prompt, without a question: JSON has at least a byte for each token of the texts in it.

    Args:
        model: Who is to read it.
        body: The body for the pod.
        size: The bytes of the body as it came.
        answers: How many are made, each of which may fill the context with it.
        count: Counts by the model's own tokenizer.
    """
    parts = len(body.get("messages") or ()) + len(body.get("tools") or ()) + answers
    most = model.context_tokens * answers
    at_most = min(most, _TIMES_BYTES * size + _TOKENS_A_PART * parts + _TEMPLATE_TOKENS)
    if any(not _is_text(message.get("content")) for message in body.get("messages") or ()):
        # A tokenizer does not tell how many tokens a picture has.
        return PromptSize(most, None, most)
    return PromptSize(at_most, partial(count, model.name, body), most)


def tell_usage(body: dict[str, Any]) -> bool:
    """Has the pod of a stream say at its end what it used; says whether the caller wants to be told too."""
    if (body.get("stream_options") or {}).get("include_usage"):
        return True
    body["stream_options"] = {"include_usage": True}
    return False


def _is_text(content: Any) -> bool:
    return not isinstance(content, list) or all(part.get("type", "text") in {"text", "refusal"} for part in content)
