"""Turns under each history policy, against the real model: what is sent, what of it the pod had, how soon it answers;
and what a plan lets expect of it, beside the rows of the ledger.

Starts the whole stack in a temporary folder, with a project for each policy. The conversations go on side by side, turn
by turn, so that noise of the machine falls on all of them.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from cloister_gateway.planning.forecast import Policy, turns_of
from cloister_gateway.usage.records import Row
from openai import OpenAI

from tests.support.ledger import question_of, rows_of
from tests.support.stack import Stack, running_stack
from tests.support.waiting import wait_until

__all__ = ["run_policies"]

_MODEL = "SmolLM2-135M-Instruct"
_INSTRUCTIONS = "You help the keepers of a lighthouse. Answer in a few plain sentences."
_QUESTION = "Question {number}: what should the keeper of the lighthouse look after in the month of {month}, and why?"
_MONTHS = ("January", "March", "May", "July", "September", "November")


_CONTEXT = 8192


class _Turn(NamedTuple):
    id: str
    prompt: int
    cached: int
    first: float
    made: bool


def run_policies(*, turns: int, tokens: int, answer: int) -> None:
    """Runs the benchmark and prints two tables.

    Args:
        turns: Of each conversation.
        tokens: Of history, under the policies that bound it.
        answer: Tokens of an answer.
    """
    bound = {"tokens": tokens, "summary_tokens": max(16, tokens // 5)}
    policies: dict[Policy, dict[str, Any]] = {
        "all": {"policy": "all"},
        "budget": {"policy": "budget", **bound},
        "summary": {"policy": "summary", **bound},
    }
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        clients = {name: _client(stack, policy) for name, policy in policies.items()}
        where = {name: client.conversations.create().id for name, client in clients.items()}
        told: dict[Policy, list[_Turn]] = {name: [] for name in clients}
        for number in range(turns):
            for name, client in clients.items():
                told[name].append(_ask(client, where[name], number, answer))
        last = [turns[-1].id for turns in told.values()]
        wait_until(lambda: all(name in rows_of(stack) for name in last), what="the rows of the last turns")
        rows = rows_of(stack)
    _print(told)
    _print_forecasts(told, rows, tokens)


def _client(stack: Stack, policy: dict[str, Any]) -> Any:
    """The SDK with a key of a project that has the policy."""
    admin = OpenAI(base_url=stack.base_url, api_key="none", admin_api_key=stack.admin_key, max_retries=0)
    projects = admin.admin.organization.projects
    project = projects.create(name=policy["policy"]).id
    key = projects.service_accounts.create(project, name="bench").api_key
    url = stack.base_url.removesuffix("/v1")
    headers = {"authorization": f"Bearer {stack.admin_key}"}
    httpx.post(f"{url}/cloister/v1/projects/{project}/history_policy", json=policy, headers=headers).raise_for_status()
    return OpenAI(base_url=stack.base_url, api_key=key.value if key else "", max_retries=0, timeout=300)


def _ask(client: Any, conversation: str, number: int, answer: int) -> _Turn:
    started, first, made = time.perf_counter(), 0.0, False
    stream = client.responses.create(
        model=_MODEL,
        instructions=_INSTRUCTIONS,
        input=_QUESTION.format(number=number + 1, month=_MONTHS[number % len(_MONTHS)]),
        conversation=conversation,
        max_output_tokens=answer,
        temperature=0,
        stream=True,
    )
    for event in stream:
        if event.type == "response.output_text.delta":
            first = first or time.perf_counter() - started
        elif event.type == "response.output_item.done":
            made = made or event.item.type == "compaction"
    usage = event.response.usage
    return _Turn(event.response.id, usage.input_tokens, usage.input_tokens_details.cached_tokens, first, made)


def _print(told: dict[Policy, list[_Turn]]) -> None:
    print("prompt tokens, share of them in the pod's cache, time to first token; + where a summary is made before it")
    print("turn " + "".join(f"{name:>28}" for name in told))
    for number, turns in enumerate(zip(*told.values(), strict=True), start=1):
        cells = [
            f"{turn.prompt:8} {100 * turn.cached / turn.prompt:6.0f} % {1000 * turn.first:7.0f} ms{' +'[turn.made]}"
            for turn in turns
        ]
        print(f"{number:4} " + "".join(f"{cell:>28}" for cell in cells))
    sums = [
        f"{sum(turn.prompt for turn in turns):8} "
        f"{100 * sum(turn.cached for turn in turns) / sum(turn.prompt for turn in turns):6.0f} % "
        f"{1000 * statistics.median(turn.first for turn in turns):7.0f} ms "
        for turns in told.values()
    ]
    print("all  " + "".join(f"{cell:>28}" for cell in sums) + "   (median time)")


def _print_forecasts(told: dict[Policy, list[_Turn]], rows: dict[str, Row], tokens: int) -> None:
    print("\ntokens by the ledger, and by how much a plan from the first question and the mean answer expects more")
    print("turn " + "".join(f"{name:>28}" for name in told))
    found = {}
    for name, turns in told.items():
        more = {
            "history_tokens": tokens,
            "summary_tokens": max(16, tokens // 5),
            "pod": {"context_tokens": _CONTEXT},
        }
        answer = round(statistics.mean(rows[turn.id].used.written for turn in turns))
        asked = question_of(rows[turns[0].id], turns=len(turns), answer=answer, more=more)
        found[name] = [(rows[turn.id].used, plan) for turn, plan in zip(turns, turns_of(asked, name), strict=True)]
    for number, one in enumerate(zip(*found.values(), strict=True), start=1):
        cells = [f"{used.read:8} {100 * (plan.prompt / used.read - 1):+7.1f} %" for used, plan in one]
        print(f"{number:4} " + "".join(f"{cell:>28}" for cell in cells))
    for what, ledger, planned in (
        ("prompts", "read", "prompt"),
        ("cached", "cached", "cached"),
        ("answers", "written", "output"),
    ):
        cells = []
        for pairs in found.values():
            real = sum(getattr(used, ledger) for used, _ in pairs)
            expected = sum(getattr(plan, planned) for _, plan in pairs)
            cells.append(f"{real:8} {100 * (expected / max(1, real) - 1):+7.1f} %")
        print(f"{what:8} " + "".join(f"{cell:>28}" for cell in cells))
    plans = [plan for _, plan in found["summary"]]
    summaries = [row.used for row in rows.values() if row.kind == "summary"]
    print(
        f"summaries: {len(summaries)} of {sum(one.read for one in summaries)} + {sum(one.written for one in summaries)}"
        f" tokens; planned {sum(plan.summary > 0 for plan in plans)} of {sum(plan.summed_up for plan in plans)} + "
        f"{sum(plan.summary for plan in plans)}"
    )
