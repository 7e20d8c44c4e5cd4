"""What the pods cost in a month, three ways: there all the time, there when asked, and at night.

``dedicated``
    The pods of the busiest minutes, all month.
``serverless``
    As many pods as the hour needs, while somebody asks and for `idle_seconds` after: with questions that come at
    random, at a rate of ``r`` a second, a pod is awake for ``1 − e^(−r·idle)`` of the hours of work. Who asks a
    sleeping one waits for `wake_seconds`.
``batch``
    The same turns with nobody waiting: pods that are full.
"""

import math
from typing import NamedTuple

from cloister_gateway.planning.demand import Demand, demand_of
from cloister_gateway.planning.forecast import Tokens
from cloister_gateway.planning.question import UsageQuestion

__all__ = ["HOURS_A_MONTH", "BreakEven", "Costs", "Way", "costs_of", "demand", "rate_of"]

HOURS_A_MONTH = 365.25 * 24 / 12
_BATCH_FULL = 0.9
"""How full a batch keeps its pods."""


class Way(NamedTuple):
    """One way to run.

    Attributes:
        pods: At once, at most.
        gpu_hours: A month.
        cost: A month.
        in_use: The share of the GPU-hours in which tokens are made; the rest is idle.
        wakes: Times a month that somebody waits for a sleeping model.
    """

    pods: int
    gpu_hours: float
    cost: float
    in_use: float
    wakes: float = 0.0


class BreakEven(NamedTuple):
    """From where on a pod that stays is cheaper than one that sleeps.

    Attributes:
        awake_share: Of the month in which it would be awake.
        gpu_hours: That is so many of it a month.
        conversations_a_day: That keep it awake so long; None where the hours of work are too few for that.
    """

    awake_share: float | None
    gpu_hours: float | None
    conversations_a_day: float | None


class Costs(NamedTuple):
    """The three ways, and where two of them meet."""

    dedicated: Way
    serverless: Way
    batch: Way
    break_even: BreakEven


def costs_of(question: UsageQuestion, conversation: Tokens) -> Costs:
    """What all conversations of a month cost.

    Args:
        question: The question.
        conversation: The tokens of one conversation.
    """
    return Costs(
        _dedicated(question, conversation),
        _serverless(question, conversation),
        _batch(question, conversation),
        _break_even(question),
    )


def rate_of(question: UsageQuestion, *, peak: bool) -> float:
    """Turns a second in the hours of work: on average, or in the busiest minutes."""
    day = question.users * question.conversations_per_user_and_day * question.conversation.turns
    mean = day / (question.week.hours_a_day * 3600)
    return mean * question.week.peak_factor if peak else mean


def demand(question: UsageQuestion, conversation: Tokens, *, peak: bool) -> Demand:
    """What that rate of mean turns asks of pods. Raises as `demand_of`."""
    turn = conversation.times(1 / question.conversation.turns)
    return demand_of(rate_of(question, peak=peak), turn, question.pod)


def _busy_gpu_hours(question: UsageQuestion, conversation: Tokens) -> float:
    """GPU-hours a month of pods that are full: the least that the tokens take."""
    month = conversation.times(question.users * question.conversations_per_user_and_day * question.week.days_a_month)
    seconds = month.computed / question.pod.prompt_rate + month.output / question.pod.many_streams
    return seconds / 3600 * question.pod.gpus


def _serverless_price(question: UsageQuestion) -> float:
    price = question.price
    return price.gpu_hour if price.serverless_gpu_hour is None else price.serverless_gpu_hour


def _dedicated(question: UsageQuestion, conversation: Tokens) -> Way:
    pods = demand(question, conversation, peak=True).pods
    hours = pods * question.pod.gpus * HOURS_A_MONTH
    busy = _busy_gpu_hours(question, conversation)
    return Way(pods, hours, hours * question.price.gpu_hour, min(1.0, busy / hours))


def _serverless(question: UsageQuestion, conversation: Tokens) -> Way:
    week, price = question.week, question.price
    rate = rate_of(question, peak=False)
    asleep = math.exp(-rate * price.idle_seconds)
    # Once a day everybody has gone: the last pod waits for its idle time, and the first question wakes one.
    tail = 0.0 if week.hours_a_day == 24 else price.idle_seconds / 3600
    awake = week.days_a_month * (week.hours_a_day * (1 - asleep) + tail)
    wakes = week.days_a_month * ((week.hours_a_day < 24) + week.hours_a_day * 3600 * rate * asleep)
    awake += wakes * price.wake_seconds / 3600
    mean = demand(question, conversation, peak=False).pods
    hours = min(awake, HOURS_A_MONTH) * mean * question.pod.gpus
    busy = _busy_gpu_hours(question, conversation)
    pods = demand(question, conversation, peak=True).pods
    hours = max(hours, busy)
    return Way(pods, hours, hours * _serverless_price(question), min(1.0, busy / hours) if hours else 0.0, wakes)


def _batch(question: UsageQuestion, conversation: Tokens) -> Way:
    hours = _busy_gpu_hours(question, conversation) / _BATCH_FULL
    night = max(24 - question.week.hours_a_day, 1.0) * question.week.days_a_month * question.pod.gpus
    return Way(max(1, math.ceil(hours / night)), hours, hours * _serverless_price(question), _BATCH_FULL)


def _break_even(question: UsageQuestion) -> BreakEven:
    """For one pod. The share of the hours of work is ``1 − e^(−r·idle)``, solved for the rate ``r``."""
    hour = _serverless_price(question)
    if hour == 0:
        return BreakEven(None, None, None)
    week = question.week
    share = question.price.gpu_hour / hour
    hours = share * HOURS_A_MONTH
    of_work = hours / (week.hours_a_day * week.days_a_month)
    conversations = None
    if of_work < 1 and question.price.idle_seconds:
        rate = -math.log(1 - of_work) / question.price.idle_seconds
        conversations = rate * week.hours_a_day * 3600 / question.conversation.turns
    return BreakEven(share, hours * question.pod.gpus, conversations)
