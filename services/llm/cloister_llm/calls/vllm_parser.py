"""The seam to vLLM's parsers of answers: what must be a call is ours to constrain and to read, the rest is theirs.

vLLM composes a class for the model's parsers of reasoning and of calls from its ``DelegatingParser``, in whose place
`install` puts ours. Reasoning stays as it is. Of calls that the model may make, this class only sees to it that what
is none stays text.
"""

from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaFunctionCall, DeltaMessage, DeltaToolCall, FunctionCall
from vllm.parser import abstract_parser
from vllm.renderers.chat_utils import make_tool_call_id
from vllm.sampling_params import StructuredOutputsParams

from cloister_llm.calls.reader import CallReader
from cloister_llm.calls.schema import answer_schema

__all__ = ["CallParser", "install"]


class CallParser(abstract_parser.DelegatingParser):  # type: ignore[misc]  # vLLM's classes are untyped here
    """Reads one answer, whole or in pieces."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reader = CallReader()
        self._text = ""  # what follows the reasoning, as the model wrote it
        self._sent = ""  # of it, as text
        self._called = False
        self._is_text = False

    def adjust_request(self, request: Any) -> Any:
        """Constrains an answer that must be a call."""
        if not request.tools or not _is_forced(request):
            return super().adjust_request(request)
        if self._reasoning_parser is not None:
            request = self._reasoning_parser.adjust_request(request)
        schema = answer_schema(
            [tool.function.model_dump(exclude_none=True) for tool in request.tools],
            _named(request),
            parallel=request.parallel_tool_calls is not False,
        )
        request.structured_outputs = StructuredOutputsParams(json=schema)
        request.response_format = None
        return request

    def _extract_tool_calls(self, content: str | None, request: Any, enable_auto_tools: bool = False) -> Any:
        if not _is_forced(request):
            calls, text = super()._extract_tool_calls(content, request, enable_auto_tools)
            return (None, content) if _calls_another(calls or (), request) else (calls, text)
        if name := _named(request):
            found = [FunctionCall(id=self._make_tool_call_id(name), name=name, arguments=content)] if content else []
            return found, None
        calls = []
        for piece in self._reader.feed(content or ""):
            if piece.name is not None:
                calls.append(FunctionCall(id=self._make_tool_call_id(piece.name), name=piece.name, arguments=""))
            calls[-1].arguments += piece.arguments
        return calls, None

    def _extract_tool_calls_streaming(self, *, delta_text: str, request: Any, **rest: Any) -> Any:
        if _is_forced(request):
            return self._forced_pieces(delta_text, request, **rest)
        if request.tool_choice == "none":
            return super()._extract_tool_calls_streaming(delta_text=delta_text, request=request, **rest)
        self._text += delta_text
        if self._is_text:
            return DeltaMessage(content=delta_text), False
        delta, _ = super()._extract_tool_calls_streaming(delta_text=delta_text, request=request, **rest)
        if delta is not None and delta.tool_calls and not self._called:
            functions = [call.function for call in delta.tool_calls if call.function and call.function.name]
            if _calls_another(functions, request):
                self._is_text = True
                return DeltaMessage(content=self._unsent()), False
            self._called = bool(functions)
        return delta, False

    def _forced_pieces(
        self,
        text: str,
        request: Any,
        *,
        tool_call_idx: Any,
        tool_call_id_type: str,
        function_name_returned: bool,
        **_: Any,
    ) -> Any:
        if name := _named(request):
            pieces = [(0, None if function_name_returned else name, text)]
        else:
            pieces = [(piece.index, piece.name, piece.arguments) for piece in self._reader.feed(text)]
        calls = []
        for index, first, arguments in pieces:
            call = DeltaToolCall(index=index, function=DeltaFunctionCall(arguments=arguments))
            if first is not None:
                call.id = make_tool_call_id(id_type=tool_call_id_type, func_name=first, idx=tool_call_idx)
                call.type = "function"
                call.function.name = first
            calls.append(call)
        return (DeltaMessage(tool_calls=calls) if calls else None), True

    def parse_delta(self, *arguments: Any, request: Any, finished: bool, **named: Any) -> Any:
        """As vLLM's; at the end what its parser held back for a call that was none is text."""
        delta = super().parse_delta(*arguments, request=request, finished=finished, **named)
        if self._text and delta is not None and delta.content:
            self._sent += delta.content
        if finished and not self._called and not self._is_text and (rest := self._unsent()).strip():
            delta = delta or DeltaMessage()
            delta.content = (delta.content or "") + rest
        return delta

    def _unsent(self) -> str:
        return self._text[len(self._sent) :] if self._text.startswith(self._sent) else ""


def install() -> None:
    """Makes vLLM compose its parsers from ours. May be called more than once."""
    abstract_parser.DelegatingParser = CallParser


def _is_forced(request: Any) -> bool:
    choice = getattr(request, "tool_choice", None)
    return choice is not None and choice not in ("none", "auto")


def _named(request: Any) -> str | None:
    return None if request.tool_choice == "required" else request.tool_choice.function.name


def _calls_another(calls: Any, request: Any) -> bool:
    """Whether a tool is called that there is not: the text only looks like a call."""
    known = {tool.function.name for tool in request.tools or ()}
    return any(call.name not in known for call in calls)
