"""How many tokens the prompt of a request has, by the tokenizer of the model that is to read it."""

from collections.abc import Mapping
from typing import Any

from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.upstream import ModelUpstream

__all__ = ["count_prompt"]

_ASIDE_TOKENS = 16
"""For what only the request itself brings: the words for how much to think, for example."""
_BEGIN_TOKENS = 2
"""For the marks of a text's beginning and end."""


async def count_prompt(upstream: ModelUpstream, model: str, body: Mapping[str, Any]) -> int:
    """No fewer tokens than a pod finds in the prompt of ``body``, and few more. Asks a pod: a round trip for each text.
    Waits for the model as the request will.

    Raises:
        CloisterError: The pods are down, or refuse the prompt.
    """
    attempts = Attempts()
    if "messages" in body:
        tools = body.get("tools") or ()
        return _ASIDE_TOKENS + await upstream.count_tokens(model, body["messages"], tools=tools, attempts=attempts)
    texts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    return sum([_BEGIN_TOKENS + len(await upstream.tokenize(model, prompt=text, attempts=attempts)) for text in texts])
