"""Images that functions return, in chats whose template writes none in a tool's turn: shown in a turn of the user's.

Templates of models that see have a place for images in a tool's turn, as Qwen3-VL's, or print such a turn as text. For
the latter each image stands as ``[image 1]`` in what was returned, and itself behind the tools' turns. All of it is
content: a text that says ``[image 1]`` is a text, and the placeholder of an image is the template's all the same.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

__all__ = ["WITH", "WITHOUT", "apart", "returns_images", "shown_behind"]

Message = dict[str, Any]

_CALL = {"id": "000000000", "type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}
_CALLED: list[Message] = [
    {"role": "user", "content": "Look."},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
]


def _sample(content: Any) -> list[Message]:
    return [*_CALLED, {"role": "tool", "tool_call_id": "000000000", "content": content}]


WITHOUT, WITH = _sample("Seen."), _sample([{"type": "text", "text": "Seen."}, {"type": "image"}])
"""Two chats that differ by an image that was returned: what a template writes of each shows whether it has a place for
one."""


def returns_images(conversation: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a tool's turn has an image, in messages as chat templates take them."""
    return any(one.get("role") == "tool" and any(map(_is_image, _parts(one))) for one in conversation)


def shown_behind(conversation: Sequence[Message]) -> list[Message]:
    """``conversation`` with the images of each run of tools' turns in a turn of the user's behind it."""
    found: list[Message] = []
    for role, run in groupby(conversation, key=lambda message: message.get("role")):
        turns = list(run)
        returned, shown = apart(turns) if role == "tool" else (turns, [])
        found += returned
        if shown:
            found.append({"role": "user", "content": shown})
    return found


def apart(turns: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """The turns of tools as text, and the parts that show their images, each with its number before it.

    The images are in the order of the turns, in which vLLM has their data.
    """
    texts: list[Message] = []
    shown: list[Message] = []
    number = 0
    for turn in turns:
        said: list[str] = []
        for part in _parts(turn):
            if _is_image(part):
                number += 1
                said.append(f"[image {number}]")
                shown += [{"type": "text", "text": f"[image {number}]: "}, dict(part)]
            else:
                said.append(str(part.get("text", "")))
        texts.append({**turn, "content": "\n".join(said)} if isinstance(turn.get("content"), list) else turn)
    return texts, shown


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else ()


def _is_image(part: Mapping[str, Any]) -> bool:
    return part.get("type") == "image"
