"""Turns under each history policy, against the real model: what is sent, what of it the pod had, how soon it answers.

Starts the whole stack in a temporary folder, with a project for each policy. The conversations go on side by side, turn
by turn, so that noise of the machine falls on all of them.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from openai import OpenAI

from tests.support.stack import Stack, running_stack

__all__ = ["run_policies"]

_MODEL = "SmolLM2-135M-Instruct"
_INSTRUCTIONS = "You help the keepers of a lighthouse. Answer in a few plain sentences."
_QUESTION = "Question {number}: what should the keeper of the lighthouse look after in the month of {month}, and why?"
_MONTHS = ("January", "March", "May", "July", "September", "November")


class _Turn(NamedTuple):
    prompt: int
    cached: int
    first: float
    made: bool


def run_policies(*, turns: int, tokens: int, answer: int) -> None:
    """Runs the benchmark and prints a table.

    Args:
        turns: Of each conversation.
        tokens: Of history, under the policies that bound it.
        answer: Tokens of an answer.
    """
    bound = {"tokens": tokens, "summary_tokens": max(16, tokens // 5)}
    policies: dict[str, dict[str, Any]] = {
        "all": {"policy": "all"},
        "budget": {"policy": "budget", **bound},
        "summary": {"policy": "summary", **bound},
    }
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        clients = {name: _client(stack, policy) for name, policy in policies.items()}
        where = {name: client.conversations.create().id for name, client in clients.items()}
        told: dict[str, list[_Turn]] = {name: [] for name in clients}
        for number in range(turns):
            for name, client in clients.items():
                told[name].append(_ask(client, where[name], number, answer))
    _print(told)


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
    return _Turn(usage.input_tokens, usage.input_tokens_details.cached_tokens, first, made)


def _print(told: dict[str, list[_Turn]]) -> None:
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
