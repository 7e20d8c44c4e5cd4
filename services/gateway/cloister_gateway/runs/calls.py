"""The calls of functions that a model makes in one answer, as they come in pieces.

They are held back until the answer is whole, and shown by the write that ends the run (`cloister_gateway.runs.run`).
A pod continues a text, but not half a call: it does not take one as the beginning of its answer. So where a generation
breaks off in the middle of a call, in the pod or with its gateway, no reader has seen anything of it, and it is made
anew after the text that they have seen. Nothing is ever shown torn, twice or otherwise.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import orjson
from cloister_common.ids import new_id

__all__ = ["Calls", "MadeCall"]


class MadeCall(NamedTuple):
    """A call that is whole.

    Attributes:
        call_id: By which the caller says what it returned.
        name: The function.
        arguments: JSON, as the model wrote it.
    """

    call_id: str
    name: str
    arguments: str


class _Growing:
    """A call of which pieces may be missing."""

    def __init__(self) -> None:
        self.name = ""
        self.arguments: list[str] = []


class Calls:
    """The calls of one answer.

    Args:
        functions: The names of those that there are.
        parallel: Whether there may be more than one call; else the first counts.
    """

    def __init__(self, functions: Collection[str], *, parallel: bool) -> None:
        self._functions = functions
        self._parallel = parallel
        self._growing: dict[int, _Growing] = {}
        self.pieces = 0

    def restart(self) -> None:
        """Forgets what came: the generation broke off, and begins again."""
        self._growing.clear()
        self.pieces = 0

    def feed(self, deltas: Sequence[dict[str, Any]]) -> None:
        """Takes ``tool_calls`` of a chunk of the model."""
        self.pieces += len(deltas)
        for delta in deltas:
            call = self._growing.setdefault(delta["index"], _Growing())
            function = delta.get("function") or {}
            call.name = call.name or function.get("name") or ""
            call.arguments.append(function.get("arguments") or "")

    def finish(self, *, cut: bool) -> tuple[list[MadeCall], str]:
        """The whole calls, in order; and as text what looks like a call of a function that there is not.

        Args:
            cut: Whether the answer ended in its middle: what came last is not whole then.
        """
        calls: list[MadeCall] = []
        text = ""
        indexes = sorted(self._growing)
        for index in indexes[:-1] if cut else indexes:
            name, arguments = self._growing[index].name, "".join(self._growing[index].arguments) or "{}"
            if name not in self._functions:
                text += orjson.dumps({"name": name, "arguments": arguments}).decode()
            elif self._parallel or not calls:
                calls.append(MadeCall(new_id("call_"), name, arguments))
        return calls, text
