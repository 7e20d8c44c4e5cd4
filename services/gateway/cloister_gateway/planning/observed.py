"""A plan out of what was really used: the question of the last thirty days, and how right the one of a week ago was.

The ledger knows no conversations. How many turns they have follows from the history that prompts carried: with ``u``
tokens that a turn leaves behind, the mean history of ``T`` turns is ``u·(T − 1)/2``. So what comes out is the
conversation whose prompts have the same mean parts as those that were sent.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from cloister_common.errors import InvalidRequest
from pydantic import Field

from cloister_gateway.planning.forecast import conversation_tokens
from cloister_gateway.planning.plan import UsagePlan, plan_json, plan_usage
from cloister_gateway.planning.question import Conversation, Pod, Price, UsageQuestion, Week
from cloister_gateway.usage import Kind
from cloister_gateway.usage.queries import Bucket, Query
from cloister_gateway.usage.records import Sum
from cloister_gateway.wire.strict import Strict

__all__ = ["Observed", "ObservedQuestion", "observe", "observed_json", "observed_lines"]

Buckets = Callable[[Query], Awaitable[Sequence[Bucket]]]

_KINDS: tuple[Kind, ...] = ("response",)
_DAY = 86_400
_DAYS, _WEEK = 30, 7
_DAYS_A_MONTH = 365.25 / 12


class ObservedQuestion(Strict):
    """What the ledger does not know."""

    model: str | None = Field(None, description="Plan for what was asked of this model only.")
    history_tokens: int = Field(2000, ge=1, description="As in a plan from guesses.")
    summary_tokens: int = Field(200, ge=1, description="As in a plan from guesses.")
    pod: Pod = Field(default_factory=Pod, description="What a pod can do: from `cloister_llm plan --json`.")
    price: Price = Field(default_factory=Price, description="What GPUs cost.")


class Window(NamedTuple):
    """What was used in a time."""

    hours: Sequence[tuple[int, Sum]]
    users: int

    @property
    def whole(self) -> Sum:
        """All of it."""
        total = Sum()
        for _, one in self.hours:
            total = total.plus(one)
        return total

    @property
    def days(self) -> int:
        """On which something was asked."""
        return len({at // _DAY for at, one in self.hours if one.requests})


class Observed(NamedTuple):
    """A plan, and how right the same was a week ago.

    Attributes:
        start, end: The time that the plan is from (Unix seconds).
        plan: For the month that follows.
        expected: Of the last seven days by what was known before them: requests, tokens of prompts, of answers. None
            where nothing was.
        happened: What they were.
    """

    start: int
    end: int
    plan: UsagePlan
    expected: tuple[float, float, float] | None
    happened: tuple[int, int, int]

    @property
    def errors(self) -> tuple[float, ...] | None:
        """By how much the expected was more than what happened, as shares of that."""
        if self.expected is None or not all(self.happened):
            return None
        return tuple(mine / real - 1 for mine, real in zip(self.expected, self.happened, strict=True))


async def observe(asked: ObservedQuestion, buckets: Buckets, now: int) -> Observed:
    """Plans from the thirty days before the day of ``now``.

    Raises:
        InvalidRequest: Too little was used in them, or its prompts were not told apart by parts.
    """
    end = now // _DAY * _DAY
    query = Query(_KINDS, end - (_DAYS + _WEEK) * _DAY, end, "1h", (_DAYS + _WEEK) * 24, ("model",))
    hours = [(bucket.start, _sum(bucket, asked.model)) for bucket in await buckets(query)]
    by_user = await buckets(
        query._replace(width="1d", limit=_DAYS + _WEEK, group_by=("project_id", "user_id", "model"))
    )

    def window(start: int, until: int) -> Window:
        users = {
            (group.project_id, group.user_id)
            for bucket in by_user
            if start <= bucket.start < until
            for group in bucket.sums
            if asked.model in {None, group.model}
        }
        return Window([(at, one) for at, one in hours if start <= at < until], len(users))

    start = end - _DAYS * _DAY
    question = _question(asked, window(start, end))
    if question is None:
        raise InvalidRequest(
            "In the last 30 days nothing was used whose prompts are told apart by their parts: plan from guesses, with "
            "'users' and 'conversation'.",
            param="model",
        )
    week = window(end - _WEEK * _DAY, end).whole
    before = window(start - _WEEK * _DAY, end - _WEEK * _DAY)
    earlier = _question(asked, before)
    expected = None if earlier is None else _expected(earlier, before.days / _DAYS * _WEEK)
    return Observed(start, end, plan_usage(question), expected, (week.requests, week.read, week.written))


def _sum(bucket: Bucket, model: str | None) -> Sum:
    total = Sum()
    for group, numbers in bucket.sums.items():
        if model in {None, group.model}:
            total = total.plus(Sum(*numbers))
    return total


def _question(asked: ObservedQuestion, window: Window) -> UsageQuestion | None:
    used, days = window.whole, window.days
    if not used.parted or not window.users:
        return None
    each = 1 / used.parted
    new, answer = used.new * each, used.written / used.requests
    history = used.history * each
    turns = min(1000, max(1, round(1 + 2 * history / max(1.0, new + answer))))
    busy = [one.requests for _, one in window.hours if one.requests]
    hours_a_day = len(busy) / days
    common = used.system + used.tools + used.history
    share = used.cached * used.parted / used.requests / common if common else 0.0
    return UsageQuestion(
        users=window.users,
        conversations_per_user_and_day=min(10_000.0, used.requests / turns / window.users / days),
        conversation=Conversation(
            turns=turns,
            system_tokens=round((used.system + used.tools) * each),
            message_tokens=max(1, round(new)),
            answer_tokens=max(1, round(answer)),
            retrieved_tokens=round(used.retrieved * each),
            template_tokens=0,  # It is among the parts.
        ),
        history_tokens=asked.history_tokens,
        summary_tokens=asked.summary_tokens,
        prefix_cache_share=min(1.0, share),
        week=Week(
            hours_a_day=hours_a_day,
            days_a_month=min(31.0, days / _DAYS * _DAYS_A_MONTH),
            peak_factor=min(1000.0, max(1.0, max(busy) / (used.requests / len(busy)))),
        ),
        pod=asked.pod,
        price=asked.price,
    )


def _expected(question: UsageQuestion, days: float) -> tuple[float, float, float]:
    conversations = question.users * question.conversations_per_user_and_day * days
    one = conversation_tokens(question, "all")
    return conversations * question.conversation.turns, one.prompt * conversations, one.output * conversations


def observed_json(found: Observed) -> dict[str, Any]:
    """The plan for programs, with where it is from."""
    names = ("requests", "prompt", "output")
    week: dict[str, Any] = {"happened": dict(zip(names, found.happened, strict=True))}
    week["expected"] = None if found.expected is None else dict(zip(names, map(round, found.expected), strict=True))
    errors = found.errors
    week["error"] = None if errors is None else {name: round(one, 4) for name, one in zip(names, errors, strict=True)}
    observed = {"start_time": found.start, "end_time": found.end, "last_week": week}
    return {**plan_json(found.plan), "observed": observed}


def observed_lines(found: Observed) -> str:
    """The same in words, for a terminal."""
    first, last = (time.strftime("%Y-%m-%d", time.gmtime(at)) for at in (found.start, found.end - _DAY))
    lines = [f"From what was used from {first} to {last}."]
    if found.errors is None or found.expected is None:
        return f"{lines[0]} How right this would have been a week ago cannot be said yet."
    for name, mine, real, error in zip(
        ("requests", "tokens of prompts", "tokens of answers"),
        found.expected,
        found.happened,
        found.errors,
        strict=True,
    ):
        lines.append(
            f"  the last week's {name}: {mine:,.0f} by the forecast before it, {real:,} in fact ({error:+.0%})"
        )
    return "\n".join(lines)
