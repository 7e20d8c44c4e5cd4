"""What the prompt of a chat completion is made of, for its row of usage: shared by bytes, without a question to a pod.

Who calls writes the whole prompt, so there is no record of what was said when. System and developer messages are
instructions, and what stands behind the last answer of the model is new; all between is history. Of the tokens that the
pod counted each part has the share that it has of the text, in bytes, and functions that of their JSON.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from cloister_gateway.prompt.history import IMAGE_TOKENS, MESSAGE_OVERHEAD_TOKENS
from cloister_gateway.prompt.parts import Layout, Parts, weight
from cloister_gateway.usage import InputSplit

__all__ = ["split_of"]

_INSTRUCTIONS = ("system", "developer")


def split_of(body: Mapping[str, Any], tokens: int) -> InputSplit:
    """The parts of a prompt of so many tokens, which they sum to.

    Args:
        body: As the pod was sent it.
        tokens: Of its prompt.
    """
    messages = body.get("messages") or ()
    said = [place for place, message in enumerate(messages) if message.get("role") == "assistant"]
    since = said[-1] + 1 if said else 0
    system = history = new = 0
    for place, message in enumerate(messages):
        size = _weight(message)
        if message.get("role") in _INSTRUCTIONS:
            system += size
        elif place < since:
            history += size
        else:
            new += size
    tools = len(orjson.dumps(body["tools"])) if body.get("tools") else 0
    # (In a `Layout` tools are tokens that were counted: here they are bytes, as the other parts.)
    shares = Layout(Parts(system, history, tools, 0, new)).split(tokens)
    return InputSplit(shares.system, shares.history, 0, shares.retrieved, shares.new)


def _weight(message: Mapping[str, Any]) -> int:
    content = message.get("content")
    texts, images = [content] if isinstance(content, str) else [], 0
    for part in content if isinstance(content, list) else ():
        text = part.get("text") or part.get("refusal")
        texts += [text] if isinstance(text, str) else []
        images += part.get("type") == "image_url"
    size = MESSAGE_OVERHEAD_TOKENS + images * IMAGE_TOKENS + sum(len(text.encode()) for text in texts)
    if message.get("tool_calls"):
        size += len(orjson.dumps(message["tool_calls"]))
    return weight(size, 1, images)
