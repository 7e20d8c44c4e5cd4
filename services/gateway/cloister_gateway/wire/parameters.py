"""Parameters that Responses and Chat Completions share: hints of OpenAI's about its own service, and sampling."""

from typing import Annotated, Literal

from cloister_common.wire.requests import Hint
from pydantic import Field

from cloister_gateway.wire.strict import Strict, only

__all__ = [
    "FrequencyPenalty",
    "Obfuscation",
    "PresencePenalty",
    "PromptCacheBreakpoint",
    "PromptCacheOptions",
    "PromptCacheRetention",
    "SafetyIdentifier",
    "ServiceTier",
    "Temperature",
    "TopLogprobs",
    "TopP",
    "User",
    "Verbosity",
    "pod_top_p",
]

_SMALLEST_TOP_P = 1e-6
"""No token but the likeliest: the next one would have to be as likely to within this."""

_UNREAD = Hint("It helps a provider to find abuse among its customers; here keys and projects say who asks.")
_CACHED = Hint("The pods keep common beginnings of prompts as long as they have room; no answer depends on it.")

User = Annotated[str | None, Field(max_length=512), _UNREAD]
SafetyIdentifier = Annotated[str | None, Field(max_length=512), _UNREAD]

PromptCacheRetention = Annotated[Literal["in_memory", "in-memory", "24h"] | None, _CACHED]


class PromptCacheOptions(Strict):
    """How long and where OpenAI caches a prompt."""

    mode: Annotated[Literal["implicit", "explicit"] | None, _CACHED] = None
    ttl: Annotated[Literal["30m", "12h"] | None, _CACHED] = None


class CacheBreakpoint(Strict):
    """Where a beginning that comes again ends."""

    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


PromptCacheBreakpoint = Annotated[CacheBreakpoint | None, _CACHED]

ServiceTier = Annotated[
    Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None,
    Hint("There is one tier, and the answer says so: `default`."),
]
Obfuscation = Annotated[
    bool | None, Hint("OpenAI's padding hides the length of tokens on the wire; none is sent, asked for or not.")
]
Verbosity = Annotated[
    Literal["medium"] | None,
    only("medium"),
    Hint("`medium` is how a model answers by itself. The others are refused: say it in the prompt."),
]

Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]
PresencePenalty = Annotated[float, Field(ge=-2, le=2)]
FrequencyPenalty = Annotated[float, Field(ge=-2, le=2)]
TopLogprobs = Annotated[int, Field(ge=0, le=20)]


def pod_top_p(value: float) -> float:
    """``top_p`` as vLLM takes it: OpenAI's 0, which leaves the likeliest token alone, is out of its range."""
    return max(value, _SMALLEST_TOP_P)
