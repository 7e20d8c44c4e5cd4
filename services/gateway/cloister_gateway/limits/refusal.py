"""How a caller is told where it stands: OpenAI's headers, and its words for what is over a limit.

Source: OpenAI, "Rate limits" (headers, whose times are Go's, ``1m30s``) and "Error codes".
"""

from collections.abc import Iterable, Mapping, Sequence

from cloister_common.errors import TooManyRequests

from cloister_gateway.limits.reservations import Amounts, Stand
from cloister_gateway.limits.rules import MILLIONTHS, Unit

__all__ = ["LimitReached", "duration", "headers_of", "is_over", "refusal_of"]

_HEADERS: Mapping[Unit, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "tokens",
    "output_tokens": "tokens",
}
"""Which headers tell of a limit."""
_RUNNING_SECONDS = 2
"""When one of those that run may have ended."""

_WHAT: Mapping[Unit, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "spend": "spend",
    "running": "generations at once",
}


class LimitReached(TooManyRequests):
    """A generation is over a limit: nothing of it was begun.

    Args:
        message: Which limit, how much of it is left, and when there is more.
        retry_after: Seconds until there is more.
        told: The headers that say how the caller stands.
    """

    type = "requests"

    def __init__(self, message: str, *, retry_after: int, told: Mapping[str, str]) -> None:
        super().__init__(message, retry_after=retry_after)
        self._told = told

    def headers(self) -> dict[str, str]:
        return {**super().headers(), **self._told}


class _TokensReached(LimitReached):
    type = "tokens"


class _QuotaReached(LimitReached):
    """What comes back next month, or with more money: a client need not try again."""

    type = "insufficient_quota"
    code = "insufficient_quota"

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "x-should-retry": "false"}


def headers_of(stands: Iterable[Stand]) -> dict[str, str]:
    """``x-ratelimit-*`` of the limits of which the least is left: one of requests, one of tokens."""
    least: dict[str, tuple[int, Stand]] = {}
    for stand in stands:
        (_, bound, most), used, _ = stand
        name = _HEADERS.get(bound.unit)
        if name is not None and (name not in least or most - used < least[name][0]):
            least[name] = (most - used, stand)
    told: dict[str, str] = {}
    for name, (left, stand) in least.items():
        told[f"x-ratelimit-limit-{name}"] = str(stand.limit.most)
        told[f"x-ratelimit-remaining-{name}"] = str(max(0, left))
        told[f"x-ratelimit-reset-{name}"] = duration(stand.seconds)
    return told


def is_over(stand: Stand, amounts: Amounts) -> bool:
    """Whether this count refused what was asked of it."""
    return stand.used + amounts.of(stand.limit.bound.unit) > stand.limit.most


def refusal_of(stands: Sequence[Stand], amounts: Amounts, *, model: str, currency: str) -> LimitReached:
    """The error for a generation that these counts refused: of several, for the one that takes longest."""
    over = [stand for stand in stands if is_over(stand, amounts)]
    worst = max(over, key=lambda stand: (amounts.of(stand.limit.bound.unit) > stand.limit.most, stand.seconds))
    bound, most = worst.limit.bound, worst.limit.most
    amount = amounts.of(bound.unit)
    whose = "the organization" if bound.level == "organization" else f"this {bound.level}"
    of = f" of '{bound.model}'" if bound.model else ""
    told = headers_of(stands)
    if bound.unit == "running":
        message = f"{whose.capitalize()} may have {most} generations at once{of}. Wait for one to end."
        return LimitReached(message, retry_after=_RUNNING_SECONDS, told=told)
    limit, used, asked = (_shown(bound.unit, number, currency) for number in (most, worst.used, amount))
    message = (
        f"Rate limit reached for '{model}': {whose} has {limit} {_WHAT[bound.unit]}{of} per {bound.per}. "
        f"Used {used}, requested {asked}. "
    )
    retry_after = max(1, worst.seconds)
    if amount > most:
        message += "A request of this size can never be made: send less, or ask for a shorter answer."
        told["x-should-retry"] = "false"
    else:
        message += f"Please try again in {duration(retry_after)}."
    if bound.per == "month":
        return _QuotaReached(message, retry_after=retry_after, told=told)
    kind = _TokensReached if _HEADERS.get(bound.unit) == "tokens" else LimitReached
    return kind(message, retry_after=retry_after, told=told)


def duration(seconds: int) -> str:
    """Seconds as OpenAI's headers have them: ``6m0s``."""
    if seconds <= 0:
        return "0s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _shown(unit: Unit, number: int, currency: str) -> str:
    return f"{number / MILLIONTHS:.2f} {currency}" if unit == "spend" else str(number)
