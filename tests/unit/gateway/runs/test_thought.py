"""Reasoning is an item before the answer; where it breaks off, what readers saw is neither torn nor doubled."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson
import pytest
from cloister_common.errors import UpstreamFailed
from cloister_common.vault import DataKey
from cloister_gateway.models import Attempts
from cloister_gateway.responses.shapes import snapshot
from cloister_gateway.runs import generation
from cloister_gateway.runs.answer import Answer
from cloister_gateway.runs.calls import Calls
from cloister_gateway.runs.generation import Generation
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.storage import RESPONSE, KeyedObject
from openai.types.responses import (
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseOutputItemDoneEvent,
    ResponseReasoningTextDeltaEvent,
    ResponseReasoningTextDoneEvent,
)
from pydantic import BaseModel

SHAPES: dict[str, type[BaseModel]] = {
    "response.content_part.added": ResponseContentPartAddedEvent,
    "response.content_part.done": ResponseContentPartDoneEvent,
    "response.output_item.done": ResponseOutputItemDoneEvent,
    "response.reasoning_text.delta": ResponseReasoningTextDeltaEvent,
    "response.reasoning_text.done": ResponseReasoningTextDoneEvent,
}
CUT = b""
"""Where a pod of `Pods` dies."""


def thinks(text: str) -> bytes:
    return _chunk({"reasoning": text})


def says(text: str, finish: str | None = None) -> bytes:
    return _chunk({"content": text}, finish)


def end(**usage: Any) -> bytes:
    body = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5, **usage}}
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n"


class Pods:
    """What each attempt answers; of an attempt that ends with `CUT` the pod dies."""

    def __init__(self, *attempts: list[bytes]) -> None:
        self.attempts = list(attempts)
        self.bodies: list[dict[str, Any]] = []

    async def stream_events(
        self, _: str, body: dict[str, Any], *, attempts: Attempts, **__: Any
    ) -> AsyncGenerator[bytes, None]:
        self.bodies.append(body)
        for block in self.attempts.pop(0):
            if block == CUT:
                raise UpstreamFailed("The pod died.")
            yield block

    async def tokenize(self, _: str, *, prompt: str, **__: object) -> list[int]:
        return [0] * len(prompt.split())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_RETRY_SECONDS", 0.0)


async def run(transcript: Transcript, pods: Pods, **request: Any) -> str:
    """The reason of the end; the response is closed."""
    keyed = KeyedObject(RESPONSE, "resp_1", DataKey(bytes(32), tenant="proj_a"))
    answer = Answer(transcript, [], cite=True)
    calls = Calls(["look"], parallel=True)
    work = Generation(
        pods,  # type: ignore[arg-type]  # all that a generation asks of them
        keyed,
        TurnRequest(model="fake", input=[], **request),
        [{"role": "user", "content": "hi"}],
        most_tokens=64,
        answer=answer,
        calls=calls,
        tokens=transcript.tokens,
    )
    reason = await work.run()
    transcript.calls, _ = calls.finish(cut=reason == "length")
    answer.finish(called=bool(transcript.calls))
    transcript.close_output(completed=reason != "length", failed=False)
    transcript.show_calls()
    return reason


def begin() -> Transcript:
    return Transcript({"id": "resp_1", "status": "in_progress", "output": [], "usage": None})


async def output_of(*attempts: list[bytes]) -> list[tuple[str, str, str]]:
    """The type, status and text of each item of the output."""
    transcript = begin()
    await run(transcript, Pods(*attempts))
    return told(transcript)


def told(transcript: Transcript) -> list[tuple[str, str, str]]:
    return [
        (item["type"], item["status"], "".join(part["text"] for part in item["content"])) for item in transcript.output
    ]


async def test_reasoning_has_the_events_of_an_item_before_the_answer() -> None:
    transcript = begin()
    await run(transcript, Pods([thinks("I "), thinks("see."), says("Yes."), says("", "stop")]))
    events = [orjson.loads(event) for event in transcript.take_pending()[1]]
    assert [(event["type"].removeprefix("response."), event["output_index"]) for event in events] == [
        ("output_item.added", 0), ("content_part.added", 0),
        ("reasoning_text.delta", 0), ("reasoning_text.delta", 0),
        ("reasoning_text.done", 0), ("content_part.done", 0), ("output_item.done", 0),
        ("output_item.added", 1), ("content_part.added", 1), ("output_text.delta", 1),
        ("output_text.done", 1), ("content_part.done", 1), ("output_item.done", 1),
    ]  # fmt: skip
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        if event["type"] in SHAPES:
            SHAPES[event["type"]].model_validate(event, strict=True)
    item = transcript.output[0]
    assert item["id"].startswith("rs_")
    assert item == {
        "id": item["id"],
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "I see."}],
    }


async def test_a_block_that_ends_a_thought_and_begins_the_answer_is_both() -> None:
    both = _chunk({"reasoning": "see.", "content": "Yes."})
    assert await output_of([thinks("I "), both, says("", "stop")]) == [
        ("reasoning", "completed", "I see."), ("message", "completed", "Yes."),
    ]  # fmt: skip


async def test_blank_lines_between_thought_and_answer_are_part_of_neither() -> None:
    assert await output_of([thinks("I see."), says("\n"), says("\nYes."), says("\n", "stop")]) == [
        ("reasoning", "completed", "I see."),
        ("message", "completed", "Yes.\n"),
    ]
    assert await output_of([says("\nYes.", "stop")]) == [("message", "completed", "\nYes.")]


async def test_an_answer_without_reasoning_has_none() -> None:
    assert await output_of([says("Yes."), says("", "stop")]) == [("message", "completed", "Yes.")]


async def test_a_thought_ends_before_the_calls_that_came_of_it() -> None:
    transcript = begin()
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    await run(transcript, Pods([thinks("I see."), _chunk({"tool_calls": [call]}, "tool_calls")]))
    assert [(item["type"], item["status"]) for item in transcript.output] == [
        ("reasoning", "completed"),
        ("function_call", "completed"),
    ]


async def test_a_thought_that_used_all_tokens_is_incomplete_and_no_empty_message_follows() -> None:
    assert await output_of([thinks("I "), _chunk({"reasoning": "see"}, "length")]) == [
        ("reasoning", "incomplete", "I see")
    ]


@pytest.mark.parametrize("cut", range(1, 4))
async def test_a_thought_that_is_thought_again_is_told_once(cut: int) -> None:
    whole = [thinks("I "), thinks("see "), thinks("it."), says("Yes."), says("", "stop")]
    assert await output_of([*whole[:cut], CUT], whole) == [
        ("reasoning", "completed", "I see it."),
        ("message", "completed", "Yes."),
    ]


async def test_a_thought_that_becomes_another_gets_an_item_of_its_own() -> None:
    found = await output_of(
        [thinks("I see "), thinks("it."), CUT], [thinks("I "), thinks("saw it."), says("Yes."), says("", "stop")]
    )
    assert found == [
        ("reasoning", "incomplete", "I see it."),
        ("reasoning", "completed", "I saw it."),
        ("message", "completed", "Yes."),
    ]


@pytest.mark.parametrize("again", [[], [thinks("I ")]])
async def test_a_thought_that_ends_before_what_was_seen_is_another(again: list[bytes]) -> None:
    found = await output_of([thinks("I see "), CUT], [*again, says("Yes."), says("", "stop")])
    assert found == [
        ("reasoning", "incomplete", "I see "),
        *[("reasoning", "completed", "I ") for _ in again],
        ("message", "completed", "Yes."),
    ]


async def test_another_gateway_thinks_again_from_what_readers_have_seen() -> None:
    first, pods = begin(), Pods([thinks("I "), thinks("see "), CUT], [CUT])
    with pytest.raises(UpstreamFailed):
        await run_once(first, pods)
    second = begin()
    second.replay(first.take_pending()[1])
    await run(second, Pods([thinks("I see"), thinks(" it."), says("Yes."), says("", "stop")]))
    assert told(second) == [("reasoning", "completed", "I see it."), ("message", "completed", "Yes.")]


async def run_once(transcript: Transcript, pods: Pods) -> None:
    """As `run`, but the gateway dies with its pod."""
    pods.attempts = pods.attempts[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "_MOST_ATTEMPTS", 1)
        await run(transcript, pods)


async def test_an_answer_is_continued_after_its_thought_even_where_the_parser_takes_it_for_one() -> None:
    pods = Pods([thinks("I see."), says("Yes, "), CUT], [thinks("it"), thinks(" is."), says("", "stop")])
    transcript = begin()
    await run(transcript, pods)
    assert told(transcript) == [("reasoning", "completed", "I see."), ("message", "completed", "Yes, it is.")]
    said = {"role": "assistant", "content": "Yes, ", "reasoning": "I see."}
    assert pods.bodies[1]["messages"][-1] == said
    assert pods.bodies[1]["continue_final_message"]
    # "I see." and "Yes, " have three words.
    assert pods.bodies[1]["max_tokens"] == 64 - 3


async def test_a_second_failure_after_more_thought_is_not_the_requests_fault() -> None:
    found = await output_of(
        [thinks("I "), CUT], [thinks("I "), thinks("see"), CUT], [thinks("I see"), says("Yes."), says("", "stop")]
    )
    assert found == [("reasoning", "completed", "I see"), ("message", "completed", "Yes.")]


async def test_reasoning_tokens_are_counted_as_the_pod_counts_them() -> None:
    transcript = begin()
    last = end(completion_tokens_details={"reasoning_tokens": 3})
    await run(transcript, Pods([thinks("I see."), says("Yes.", "stop"), last]))
    usage = transcript.tokens.usage()
    assert (usage.output_tokens, usage.output_tokens_details.reasoning_tokens) == (5, 3)


async def test_a_thought_under_way_is_in_the_snapshot() -> None:
    first = begin()
    first.think(first.open_reasoning("rs_1"), "I see")
    shown = snapshot({"id": "resp_1", "output": []}, first.take_pending()[1])
    assert shown["output"][0]["content"] == [{"type": "reasoning_text", "text": "I see"}]


@pytest.mark.parametrize(("effort", "on"), [("none", False), ("minimal", False), ("low", True), ("high", True)])
async def test_effort_reaches_the_pod_under_every_name_that_templates_have(effort: str, on: bool) -> None:
    pods = Pods([says("Yes.", "stop")])
    await run(begin(), pods, reasoning_effort=effort)
    assert pods.bodies[0]["reasoning_effort"] == effort
    assert pods.bodies[0]["chat_template_kwargs"] == {"enable_thinking": on, "thinking": on}


async def test_nothing_is_said_of_effort_where_nobody_asked() -> None:
    pods = Pods([says("Yes.", "stop")])
    await run(begin(), pods)
    assert not pods.bodies[0].keys() & {"reasoning_effort", "chat_template_kwargs"}
