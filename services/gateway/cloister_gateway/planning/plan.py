"""The whole plan: tokens under each policy, the demand of the busiest minutes, the cost of each way to run."""

from typing import Any, NamedTuple

from cloister_common.errors import InvalidRequest

from cloister_gateway.planning.demand import Demand
from cloister_gateway.planning.forecast import POLICIES, Policy, Tokens, TurnTokens, conversation_tokens, turns_of
from cloister_gateway.planning.money import Costs, costs_of, demand
from cloister_gateway.planning.question import UsageQuestion

__all__ = ["Policies", "UsagePlan", "plan_json", "plan_usage"]

ASSUMPTIONS = (
    "Every conversation is the mean one, and questions come at random.",
    "A prompt's cached tokens are those it has in common with the one before, times 'prefix_cache_share'; its system "
    "turn it has in common with other conversations of the project.",
    "Excerpts are not kept in the history, and stand behind it.",
    "Serverless pods follow the mean load of the hours of work; the busiest minutes are not in their hours.",
    "A turn follows the policy of its project, which is 'all' unless one is set: the others show what that would save.",
)


class Outlook(NamedTuple):
    """What comes of one policy of history.

    Attributes:
        turns: One conversation, turn by turn.
        conversation, day, month: Sums of tokens.
        saved: The share of policy ``all``'s computed prompt tokens that it saves.
        demand: In the busiest minutes.
        costs: A month.
        per_million: What a million tokens cost, prompts and answers, with dedicated pods.
    """

    turns: list[TurnTokens]
    conversation: Tokens
    day: Tokens
    month: Tokens
    saved: float
    demand: Demand
    costs: Costs
    per_million: float


Policies = dict[Policy, Outlook]


class UsagePlan(NamedTuple):
    """The answer to a question, with what was asked."""

    question: UsageQuestion
    policies: Policies


def plan_usage(question: UsageQuestion) -> UsagePlan:
    """Plans.

    Raises:
        InvalidRequest: No number of pods carries it.
    """
    everything = conversation_tokens(question, "all")
    try:
        return UsagePlan(question, {policy: _outlook(question, policy, everything) for policy in POLICIES})
    except ValueError as error:
        raise InvalidRequest(f"The load cannot be planned: {error}.", param="users") from error


def _outlook(question: UsageQuestion, policy: Policy, everything: Tokens) -> Outlook:
    one = conversation_tokens(question, policy)
    day = one.times(question.users * question.conversations_per_user_and_day)
    month = day.times(question.week.days_a_month)
    costs = costs_of(question, one)
    return Outlook(
        list(turns_of(question, policy)),
        one,
        day,
        month,
        1 - one.computed / everything.computed,
        demand(question, one, peak=True),
        costs,
        costs.dedicated.cost / (month.prompt + month.output) * 1e6,
    )


def plan_json(plan: UsagePlan) -> dict[str, Any]:
    """The plan for programs. Tokens are whole; money is in the question's currency, a month."""
    return {
        "object": "cloister.usage_plan",
        "question": plan.question.model_dump(),
        "policies": {policy: _outlook_json(outlook) for policy, outlook in plan.policies.items()},
        "assumptions": list(ASSUMPTIONS),
    }


def _outlook_json(outlook: Outlook) -> dict[str, Any]:
    costs = outlook.costs
    return {
        "turns": [{**turn._asdict(), "prompt": turn.prompt} for turn in outlook.turns],
        **{
            name: _tokens_json(tokens)
            for name, tokens in (
                ("conversation", outlook.conversation),
                ("day", outlook.day),
                ("month", outlook.month),
            )
        },
        "saved_share": round(outlook.saved, 4),
        "peak": {name: round(value, 3) for name, value in outlook.demand._asdict().items()},
        "cost": {
            **{
                name: {key: round(value, 3) for key, value in way._asdict().items()}
                for name, way in (
                    ("dedicated", costs.dedicated),
                    ("serverless", costs.serverless),
                    ("batch", costs.batch),
                )
            },
            "break_even": costs.break_even._asdict(),
            "per_million_tokens": round(outlook.per_million, 4),
        },
    }


def _tokens_json(tokens: Tokens) -> dict[str, int]:
    return {
        "prompt": round(tokens.prompt),
        "cached": round(tokens.cached),
        "computed": round(tokens.computed),
        "output": round(tokens.output),
    }
