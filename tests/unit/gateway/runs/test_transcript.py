"""A response is a function of its events: whoever replays them has the same response and goes on the same way."""

from typing import Any

import orjson
from cloister_gateway.responses.shapes import snapshot
from cloister_gateway.runs.transcript import Transcript
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseTextDeltaEvent


def new_body() -> dict[str, Any]:
    return {"id": "resp_1", "status": "queued", "output": [], "usage": None}


def begin() -> Transcript:
    transcript = Transcript(new_body())
    transcript.lifecycle("response.created")
    transcript.lifecycle("response.in_progress", status="in_progress")
    return transcript


STEPS = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 30)), max_size=20)


def logprob(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": -1.5, "bytes": list(token.encode()), "top_logprobs": []}


def perform(transcript: Transcript, steps: list[str | int]) -> None:
    """Texts are deltas, those of odd length with logprobs; numbers are citations."""
    index = transcript.open_message("msg_1")
    for step in steps:
        if isinstance(step, str) and len(step) % 2:
            transcript.delta_with_logprobs(index, step, [logprob(step)])
        elif isinstance(step, str):
            transcript.delta(index, step)
        else:
            transcript.annotate(index, {"type": "file_citation", "index": step})


@given(steps=STEPS, searched=st.booleans(), cut=st.integers(0, 40))
def test_a_replay_up_to_any_event_goes_on_as_the_original_did(steps: list[str | int], searched: bool, cut: int) -> None:
    first = begin()
    if searched:
        first.close_search(first.open_search("fs_1", ["q"]), results=None, coverage="found")
    perform(first, steps)
    first.close_output(completed=True, failed=False)
    first.lifecycle("response.completed", status="completed")
    number, events = first.take_pending()
    assert number == 0
    assert [orjson.loads(event)["sequence_number"] for event in events] == list(range(len(events)))
    assert first.take_pending() == (len(events), [])

    second = Transcript(new_body())
    second.replay(events[:cut])
    second.replay(events[cut:])
    assert second.next_number == len(events)
    assert second.response == first.response
    text = "".join(step for step in steps if isinstance(step, str))
    assert second.output[-1]["content"][0]["text"] == text
    assert second.output[-1]["content"][0]["annotations"] == [
        {"type": "file_citation", "index": step} for step in steps if isinstance(step, int)
    ]
    assert second.output[-1]["content"][0]["logprobs"] == [
        logprob(step) for step in steps if isinstance(step, str) and len(step) % 2
    ]


@given(steps=STEPS)
def test_a_snapshot_has_the_text_so_far_and_leaves_the_record_alone(steps: list[str | int]) -> None:
    transcript = begin()
    perform(transcript, steps)
    _, events = transcript.take_pending()
    body = new_body()
    half = snapshot(body, events)
    assert body == new_body()
    assert half["status"] == "in_progress"
    assert half["output"][0]["content"][0]["text"] == "".join(step for step in steps if isinstance(step, str))
    assert half["output"][0]["status"] == "in_progress"


def test_open_items_are_closed_by_how_the_run_ended() -> None:
    for completed, failed, message, search in (
        (True, False, "completed", "incomplete"),
        (False, True, "incomplete", "failed"),
        (False, False, "incomplete", "incomplete"),
    ):
        transcript = begin()
        transcript.open_search("fs_1", ["q"])
        transcript.delta(transcript.open_message("msg_1"), "half")
        transcript.close_output(completed=completed, failed=failed)
        assert [item["status"] for item in transcript.output] == [search, message]
        before = transcript.next_number
        transcript.close_output(completed=completed, failed=failed)
        assert transcript.next_number == before


@given(text=st.text(min_size=1, max_size=20), before=st.integers(0, 3))
def test_a_token_is_the_event_that_the_sdk_knows_whatever_its_text(text: str, before: int) -> None:
    transcript = begin()
    for _ in range(before):
        transcript.close_search(transcript.open_search("fs_1", ["q"]), results=None, coverage="found")
    index = transcript.open_message('msg_"1"')
    _, earlier = transcript.take_pending()
    transcript.delta(index, text)
    number, (raw,) = transcript.take_pending()
    event = orjson.loads(raw)
    assert orjson.dumps(event) == raw, "as orjson writes it: no space, no escape of another kind"
    assert list(event) == [
        "type", "sequence_number", "item_id", "output_index", "content_index", "delta", "logprobs",
    ]  # fmt: skip
    assert event["sequence_number"] == number == orjson.loads(earlier[-1])["sequence_number"] + 1
    told = ResponseTextDeltaEvent.model_validate(event, strict=True)
    assert (told.delta, told.item_id, told.output_index, told.content_index) == (text, 'msg_"1"', before, 0)


def test_a_reader_waits_for_no_tick_before_the_first_text_and_at_the_end() -> None:
    transcript = begin()
    heard: list[bool] = []
    transcript.on_event = lambda *, at_once: heard.append(at_once)
    index = transcript.open_message("msg_1")
    assert heard == [True, True]
    heard.clear()
    for word in ("one", "two", "three"):
        transcript.delta(index, word)
    transcript.annotate(index, {"type": "file_citation", "index": 3})
    assert heard == [True, False, False, False]
    heard.clear()
    transcript.close_output(completed=True, failed=False)
    transcript.lifecycle("response.completed", status="completed")
    assert all(heard)


def test_the_type_is_the_first_key_of_every_event() -> None:
    transcript = begin()
    perform(transcript, ["a", 1])
    assert all(event.startswith(b'{"type":"response.') for event in transcript.take_pending()[1])
