"""Functions beside an answer with a form (``text.format``): it is asked first whether the model calls one.

vLLM holds all that a model says to the form, and no call has it: it would never call. So it is asked without the form,
out of its readers' sight. What it calls is the answer. Where it begins to speak instead, it is cut off at once, and
asked for the answer in its form.
"""

from collections.abc import Sequence

from cloister_gateway.runs.answer import Answer
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.thought import reasoning_text
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.wire.items import Logprob, ResponseBody

__all__ = ["SpeaksError", "Unspoken", "in_form", "is_asked_first", "without_form"]


class SpeaksError(Exception):
    """The model answers, and calls nothing."""


class Unspoken(Answer):
    """An answer that nobody is to see: it ends where it begins."""

    def __init__(self, response: ResponseBody) -> None:
        self._aside = Transcript({**response, "output": []})
        super().__init__(self._aside, [], cite=False)

    def feed(self, text: str, logprobs: Sequence[Logprob] | None = None) -> None:
        """Raises `SpeaksError` for text of the model that says something."""
        if text.strip():
            raise SpeaksError

    def thoughts(self) -> str:
        """What the model has thought before it called."""
        self.thought.close()
        return "".join(reasoning_text(item) for item in self._aside.output)


def is_asked_first(request: TurnRequest) -> bool:
    """Whether the model may call a function, and has a form to answer in."""
    return bool(request.functions) and request.response_format is not None and request.function_choice == "auto"


def without_form(request: TurnRequest) -> TurnRequest:
    """The request as it is asked first."""
    return request.model_copy(update={"response_format": None, "logprobs": None})


def in_form(request: TurnRequest) -> TurnRequest:
    """The request once it is known that nothing is called: some parsers take JSON for a call."""
    return request.model_copy(update={"function_choice": "none"})
