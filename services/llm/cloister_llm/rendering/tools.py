"""Tools in chats whose template has no place for them: written out in messages that every template knows.

What tools there are stands at the end of the system turn, a call in the text of the assistant's turn, and what the tool
answered in a turn of the user's, in the form that Nous Research trained Hermes on and Qwen took over: most models have
seen it, and vLLM's ``hermes`` reads it. All of it is content, none of it a control token. What a tool returned is a
JSON string in which no mark ends (``<\\/``), so that it cannot end its own and speak for another.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from cloister_llm.rendering.returned import apart

__all__ = ["PARSER", "has_place_for_tools", "uses_tools", "written_out"]

PARSER = "hermes"
"""vLLM's parser of the calls that are asked for here."""

_TOOLS = re.compile(r"\btools\b")
_GUIDE = """# Tools

To answer, you may call functions. These are the ones you have, each with the JSON schema of its arguments:
<tools>
{tools}
</tools>

To call one, write its name and its arguments as JSON within <tool_call></tool_call> tags, once for each call:
<tool_call>
{{"name": <name of the function>, "arguments": <object of arguments>}}
</tool_call>
What it returns comes back within <tool_response></tool_response> tags."""

Message = dict[str, Any]


@lru_cache(maxsize=16)
def has_place_for_tools(template: str) -> bool:
    """Whether a chat template does anything with the tools it is given."""
    return _TOOLS.search(template) is not None


def uses_tools(conversation: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> bool:
    """Whether there is anything that a template needs such a place for."""
    return bool(tools) or any(one.get("role") == "tool" or one.get("tool_calls") for one in conversation)


def written_out(conversation: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None) -> list[Message]:
    """``conversation`` with its calls, what they returned and ``tools`` in the text of system, assistant and user.

    Args:
        conversation: Messages as chat templates take them, with arguments of calls as objects or as JSON.
        tools: Definitions in OpenAI's schema.
    """
    written: list[Message] = []
    places: dict[str, int] = {}  # of the calls, by their ids
    for role, run in groupby(conversation, key=lambda message: message.get("role")):
        if role == "tool":
            returned, shown = apart(list(run))
            # Nothing but their order says which call they belong to.
            answers = sorted(returned, key=lambda one: places.get(str(one.get("tool_call_id")), len(places)))
            text = "\n".join(_response(_text(one["content"])) for one in answers)
            written.append(
                {"role": "user", "content": [{"type": "text", "text": f"{text}\n"}, *shown] if shown else text}
            )
            continue
        for message in run:
            calls = message.get("tool_calls") or ()
            places |= {str(call.get("id")): len(places) + place for place, call in enumerate(calls)}
            rest = {name: value for name, value in message.items() if name != "tool_calls"}
            if calls:
                rest["content"] = _joined(rest.get("content"), "\n".join(map(_call, calls)), "\n")
            written.append(rest)
    return _with_guide(written, tools) if tools else written


def _with_guide(conversation: list[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    functions = (tool["function"] for tool in tools)
    lines = (_json({name: value for name, value in one.items() if value is not None}) for one in functions)
    guide = _GUIDE.format(tools="\n".join(lines))
    if conversation and conversation[0].get("role") in {"system", "developer"}:
        first, *rest = conversation
        return [{**first, "content": _joined(first.get("content"), guide, "\n\n")}, *rest]
    return [{"role": "system", "content": guide}, *conversation]


def _call(call: Mapping[str, Any]) -> str:
    function = call["function"]
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    return f"<tool_call>\n{_json({'name': function['name'], 'arguments': arguments})}\n</tool_call>"


def _response(content: str) -> str:
    text = _json(content).replace("</", "<\\/")
    return f"<tool_response>\n{text}\n</tool_response>"


def _joined(content: Any, more: str, between: str) -> Any:
    """``content``, text or parts, with more text behind it."""
    if isinstance(content, list):
        return [*content, {"type": "text", "text": between + more if content else more}]
    return f"{content}{between}{more}" if content else more


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
