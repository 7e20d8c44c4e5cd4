"""A plan from what was used finds the conversation again that it was, and tells how right it would have been."""

from collections.abc import Sequence

import pytest
from cloister_common.errors import InvalidRequest
from cloister_gateway.planning.forecast import turns_of
from cloister_gateway.planning.observed import ObservedQuestion, observe, observed_json, observed_lines
from cloister_gateway.planning.question import Conversation, UsageQuestion
from cloister_gateway.usage import InputSplit
from cloister_gateway.usage.queries import Bucket, Group, Query
from cloister_gateway.usage.records import Sum

DAY = 86_400
NOW = 20_000 * DAY + 5000
REAL = UsageQuestion(
    users=4,
    conversations_per_user_and_day=2,
    conversation=Conversation(
        turns=8, system_tokens=50, message_tokens=40, answer_tokens=100, retrieved_tokens=30, template_tokens=0
    ),
    prefix_cache_share=0.5,
)


def conversation() -> Sum:
    """What one of them is in the ledger."""
    total = Sum()
    for turn in turns_of(REAL, "all"):
        split = InputSplit(turn.system, turn.history, turn.retrieved, 0, turn.new)
        cached = (turn.system + turn.history) // 2
        total = total.plus(Sum.of_one(turn.prompt, cached, turn.output, 0, split))
    return total


def ledger(*, last_week: int = 1) -> "Ledger":
    return Ledger(last_week)


class Ledger:
    """Two hours each day in which every user has a conversation; in the last week so many."""

    def __init__(self, last_week: int) -> None:
        self._last_week = last_week

    async def __call__(self, query: Query) -> Sequence[Bucket]:
        step = query.seconds
        return [self._bucket(query, start, start + step) for start in range(query.start, query.end, step)]

    def _bucket(self, query: Query, start: int, end: int) -> Bucket:
        times = sum(at in range(start, end) for at in (start // DAY * DAY + 9 * 3600, start // DAY * DAY + 10 * 3600))
        times *= self._last_week if start >= query.end - 7 * DAY else 1
        one = Sum(*(number * times for number in conversation()))
        if not times:
            return Bucket(start, end, {})
        if "user_id" in query.group_by:
            return Bucket(start, end, {Group("p", f"user{number}", None, "big"): one for number in range(REAL.users)})
        whole = Sum(*(number * REAL.users for number in one))
        return Bucket(start, end, {Group(None, None, None, "big"): whole})


async def test_the_conversation_that_was_is_found_again() -> None:
    found = await observe(ObservedQuestion(), ledger(), NOW)
    question = found.plan.question
    assert question.conversation == REAL.conversation
    assert question.users == 4
    assert question.conversations_per_user_and_day == pytest.approx(2)
    assert question.prefix_cache_share == pytest.approx(0.5, abs=0.01)
    assert (question.week.hours_a_day, question.week.peak_factor) == (2, 1)
    assert found.errors == pytest.approx((0, 0, 0), abs=1e-9)
    assert found.end - found.start == 30 * DAY
    body = observed_json(found)
    assert body["observed"]["last_week"]["error"] == {"requests": 0, "prompt": 0, "output": 0}
    assert body["question"]["conversation"]["turns"] == 8


async def test_a_week_that_was_another_one_is_an_error_of_the_forecast() -> None:
    found = await observe(ObservedQuestion(), ledger(last_week=2), NOW)
    # It had said half of what came.
    assert found.errors == pytest.approx((-0.5, -0.5, -0.5))
    assert "(-50%)" in observed_lines(found)


async def test_nothing_to_plan_from_is_said_so() -> None:
    with pytest.raises(InvalidRequest, match="plan from guesses"):
        await observe(ObservedQuestion(model="other"), ledger(), NOW)
