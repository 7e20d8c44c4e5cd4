"""The plan in words, for a terminal."""

from cloister_gateway.planning.plan import ASSUMPTIONS, UsagePlan

__all__ = ["describe"]

_SHOWN_TURNS = 12
_NAMES = {"all": "all of it", "budget": "budget", "summary": "summary"}


def describe(plan: UsagePlan) -> str:
    """Some dozen lines: tokens by turn, sums, demand, cost."""
    question = plan.question
    said, price = question.conversation, question.price
    lines = [
        f"{question.users:,} users, {question.conversations_per_user_and_day:g} conversations a day each, of "
        f"{said.turns} turns of {said.message_tokens:,} + {said.answer_tokens:,} tokens.",
        "",
        "Tokens of a turn's prompt, by how history is kept:",
        _row("turn", *(_NAMES[policy] for policy in plan.policies)),
    ]
    outlooks = list(plan.policies.values())
    lines += [
        _row(f"{turn}", *(f"{outlook.turns[turn - 1].prompt:,}" for outlook in outlooks))
        for turn in _chosen(said.turns)
    ]
    lines += ["", _row("a month", *(_NAMES[policy] for policy in plan.policies))]
    for name, values in (
        ("prompts, million tokens", [f"{one.month.prompt / 1e6:,.1f}" for one in outlooks]),
        ("of them computed", [f"{one.month.computed / 1e6:,.1f}" for one in outlooks]),
        ("saved by the policy", [f"{one.saved:.0%}" for one in outlooks]),
        ("answers, million tokens", [f"{one.month.output / 1e6:,.1f}" for one in outlooks]),
        ("answers at once, at peak", [f"{one.demand.at_once:,.1f}" for one in outlooks]),
        ("tokens a second of each", [f"{one.demand.tokens_per_second:,.0f}" for one in outlooks]),
        ("pods at peak", [f"{one.demand.pods:,}" for one in outlooks]),
        (f"dedicated, {price.currency}", [f"{one.costs.dedicated.cost:,.0f}" for one in outlooks]),
        ("  in use", [f"{one.costs.dedicated.in_use:.0%}" for one in outlooks]),
        (f"  {price.currency} a million tokens", [f"{one.per_million:,.2f}" for one in outlooks]),
        (f"serverless, {price.currency}", [f"{one.costs.serverless.cost:,.0f}" for one in outlooks]),
        ("  times a question waits", [f"{one.costs.serverless.wakes:,.0f}" for one in outlooks]),
        (f"batch, {price.currency}", [f"{one.costs.batch.cost:,.0f}" for one in outlooks]),
    ):
        lines.append(_row(name, *values))
    return "\n".join([*lines, "", _break_even(plan), "", *ASSUMPTIONS])


def _break_even(plan: UsagePlan) -> str:
    point = next(iter(plan.policies.values())).costs.break_even
    if point.awake_share is None:
        return "Serverless pods cost nothing here."
    if point.conversations_a_day is None:
        return "A pod that sleeps is cheaper than one that stays, however many ask it in these hours."
    return (
        f"A pod that stays is cheaper than one that sleeps from {point.conversations_a_day:,.1f} conversations a day "
        f"on, which keep it awake for {point.awake_share:.0%} of the month."
    )


def _chosen(turns: int) -> list[int]:
    """Turns to show: all of a few, else some from the first to the last."""
    if turns <= _SHOWN_TURNS:
        return list(range(1, turns + 1))
    return sorted({1 + round(place * (turns - 1) / (_SHOWN_TURNS - 1)) for place in range(_SHOWN_TURNS)})


def _row(name: str, *values: str) -> str:
    return f"  {name:<26}" + "".join(f"{value:>16}" for value in values)
