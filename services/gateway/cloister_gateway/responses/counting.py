"""What a turn would send and reserve, as ``POST /v1/responses/input_tokens`` tells it."""

from collections.abc import Sequence
from typing import NamedTuple

from cloister_gateway.limits.service import Outlook
from cloister_gateway.prompt import Parts
from cloister_gateway.usage import Generation, PromptSize
from cloister_gateway.wire.items import ResponseBody

__all__ = ["InputCount"]


class InputCount(NamedTuple):
    """What a turn would send.

    Attributes:
        tokens: Of its prompt.
        parts: The same by part.
        dropped: How many messages of the history would stay out.
        generation: What would be reserved for.
        size: Its prompt, as it would be reserved.
        most_output: Tokens that it would reserve for what the model writes.
    """

    tokens: int
    parts: Parts
    dropped: int
    generation: Generation
    size: PromptSize
    most_output: int

    def body(self, outlook: Sequence[Outlook]) -> ResponseBody:
        """OpenAI's answer, and beside it ours: the parts, and what the turn would take of the limits in ``outlook``."""
        limits = [
            {
                "level": one.bound.level,
                "model": one.bound.model or None,
                "unit": one.bound.unit,
                "per": one.bound.per,
                "limit": one.most,
                "used": one.used,
                "takes": one.takes,
            }
            for one in outlook
        ]
        return {
            "object": "response.input_tokens",
            "input_tokens": self.tokens,
            "cloister": {
                "parts": self.parts._asdict(),
                "dropped_messages": self.dropped,
                "most_output_tokens": self.most_output,
                "limits": limits,
            },
        }
