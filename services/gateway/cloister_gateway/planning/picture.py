"""The plan as a picture for a proposal: an SVG of its own, without scripts, fonts or anything fetched.

Left, the tokens of each turn's prompt under each policy of history; right, what a month costs each way.
"""

import math
from collections.abc import Sequence
from html import escape

from cloister_gateway.planning.plan import UsagePlan

__all__ = ["draw"]

_WIDTH, _HEIGHT = 960, 420
_TOP, _BOTTOM = 70, 360
_COLOURS = {"all": "#b3261e", "budget": "#1f6f54", "summary": "#2b59c3"}
_WAYS = {"dedicated": "#31485f", "serverless": "#4f8fba", "batch": "#9bbf85"}


def draw(plan: UsagePlan) -> str:
    """The SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(_title(plan))}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_WIDTH / 2, 24, _title(plan), size=15, anchor="middle"),
        *_prompts(plan, left=80, right=500),
        *_costs(plan, left=600, right=930),
        "</svg>",
    ]
    return "\n".join(parts)


def _title(plan: UsagePlan) -> str:
    question = plan.question
    return (
        f"{question.users:,} users · {question.conversations_per_user_and_day:g} conversations a day · "
        f"{question.conversation.turns} turns"
    )


def _prompts(plan: UsagePlan, *, left: float, right: float) -> list[str]:
    turns = plan.question.conversation.turns
    most = max(turn.prompt for outlook in plan.policies.values() for turn in outlook.turns)
    ticks = _ticks(most)
    top = ticks[-1]

    def place(turn: int, tokens: float) -> tuple[float, float]:
        across = (turn - 1) / max(1, turns - 1)
        return left + across * (right - left), _BOTTOM - tokens / top * (_BOTTOM - _TOP)

    parts = _frame(left, right, ticks, what="tokens of the prompt")
    for turn in sorted({1, *(1 + round(part * (turns - 1) / 5) for part in range(6))}):
        parts.append(_text(place(turn, 0)[0], _BOTTOM + 18, str(turn), anchor="middle"))
    parts.append(_text((left + right) / 2, _BOTTOM + 40, "turn of the conversation", anchor="middle"))
    for row, (policy, outlook) in enumerate(plan.policies.items()):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(turn.turn, turn.prompt) for turn in outlook.turns))
        colour = _COLOURS[policy]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if turns == 1:
            x, y = place(1, outlook.turns[0].prompt)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        parts += _legend(left + 14, _TOP + 4 + 18 * row, colour, f"history: {policy}")
    return parts


def _costs(plan: UsagePlan, *, left: float, right: float) -> list[str]:
    bars = [
        (policy, way, getattr(outlook.costs, way).cost) for policy, outlook in plan.policies.items() for way in _WAYS
    ]
    ticks = _ticks(max(cost for _, _, cost in bars))
    parts = _frame(left, right, ticks, what=f"{plan.question.price.currency} a month")
    group = (right - left) / len(plan.policies)
    width = group / (len(_WAYS) + 1)
    for place, (_, way, cost) in enumerate(bars):
        x = left + group * (place // len(_WAYS)) + width * (place % len(_WAYS) + 0.5)
        height = cost / ticks[-1] * (_BOTTOM - _TOP)
        parts.append(
            f'<rect x="{x:.1f}" y="{_BOTTOM - height:.1f}" width="{width * 0.9:.1f}" height="{height:.1f}" '
            f'fill="{_WAYS[way]}"><title>{way}: {cost:,.0f}</title></rect>'
        )
    for place, policy in enumerate(plan.policies):
        parts.append(_text(left + group * (place + 0.5), _BOTTOM + 18, policy, anchor="middle"))
    parts.append(_text((left + right) / 2, _BOTTOM + 40, "history", anchor="middle"))
    for column, (way, colour) in enumerate(_WAYS.items()):
        parts += _legend(left + 6 + 105 * column, _TOP - 18, colour, way)
    return parts


def _frame(left: float, right: float, ticks: Sequence[float], *, what: str) -> list[str]:
    middle = (_TOP + _BOTTOM) / 2
    parts = [
        f'<text x="{left - 58:.0f}" y="{middle:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 {left - 58:.0f} {middle:.0f})">{escape(what)}</text>'
    ]
    for tick in ticks:
        y = _BOTTOM - tick / ticks[-1] * (_BOTTOM - _TOP)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(left - 6, y + 4, f"{tick:,.0f}" if ticks[-1] >= 5 else f"{tick:,.2f}", anchor="end"))
    parts.append(f'<line x1="{left}" y1="{_BOTTOM}" x2="{right}" y2="{_BOTTOM}" stroke="#333333"/>')
    return parts


def _legend(x: float, y: float, colour: str, name: str) -> list[str]:
    return [f'<rect x="{x}" y="{y - 9}" width="12" height="9" fill="{colour}"/>', _text(x + 17, y, name)]


def _text(x: float, y: float, words: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to at least ``most``, five or so."""
    most = max(most, 1e-9)
    step = 10 ** math.floor(math.log10(most / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if factor * step * 5 >= most)
    return [step * number for number in range(math.ceil(most / step) + 1)]
