"""Parameters that several routes share: hints of OpenAI's about its own service, sampling, and what vLLM adds to it."""

from typing import Annotated, Literal

from cloister_common.wire.requests import Extension, Hint
from pydantic import Field

from cloister_gateway.wire.strict import LARGEST_NUMBER, Strict, only

__all__ = [
    "FrequencyPenalty",
    "IgnoreEos",
    "MinP",
    "MinTokens",
    "Obfuscation",
    "PresencePenalty",
    "PromptCacheBreakpoint",
    "PromptCacheOptions",
    "PromptCacheRetention",
    "RepetitionPenalty",
    "SafetyIdentifier",
    "Seed",
    "ServiceTier",
    "Temperature",
    "TopK",
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
    Field(
        description="`flex` is computed when nothing more urgent waits, as background runs are. All others are one "
        "tier, and the answer says so: `default`."
    ),
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
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]

_VLLM = Extension("vLLM")
IgnoreEos = Annotated[
    bool | None, _VLLM, Field(description="Goes on to the longest answer that there may be, whatever the model says.")
]
MinTokens = Annotated[int | None, _VLLM, Field(ge=0, le=LARGEST_NUMBER, description="The shortest answer, in tokens.")]
TopK = Annotated[
    int | None,
    _VLLM,
    Field(ge=-1, le=LARGEST_NUMBER, description="Samples among that many tokens; 0 and -1 are all."),
]
MinP = Annotated[
    float | None,
    _VLLM,
    Field(ge=0, le=1, description="Leaves out tokens less likely than this share of the likeliest."),
]
RepetitionPenalty = Annotated[
    float | None, _VLLM, Field(gt=0, le=10, description="Over 1 makes what was said before less likely.")
]


def tier_served(asked: str | None) -> Literal["default", "flex"]:
    """The ``service_tier`` that an answer says it was served by."""
    return "flex" if asked == "flex" else "default"


def pod_top_p(value: float) -> float:
    """``top_p`` as vLLM takes it: OpenAI's 0, which leaves the likeliest token alone, is out of its range."""
    return max(value, _SMALLEST_TOP_P)
