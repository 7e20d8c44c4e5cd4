"""A response is a function of its events: whoever replays them has the same response and goes on the same way."""

from typing import Any

import orjson
from cloister_gateway.responses.shapes import snapshot
from cloister_gateway.runs.transcript import Assembler
from hypothesis import given
from hypothesis import strategies as st


def new_body() -> dict[str, Any]:
    return {"id": "resp_1", "status": "queued", "output": [], "usage": None}


def begin() -> Assembler:
    assembler = Assembler(new_body())
    assembler.lifecycle("response.created")
    assembler.lifecycle("response.in_progress", status="in_progress")
    return assembler


STEPS = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 30)), max_size=20)


def perform(assembler: Assembler, steps: list[str | int]) -> None:
    """Texts are deltas, numbers are citations."""
    index = assembler.open_message("msg_1")
    for step in steps:
        if isinstance(step, str):
            assembler.delta(index, step)
        else:
            assembler.annotate(index, {"type": "file_citation", "index": step})


@given(steps=STEPS, searched=st.booleans(), cut=st.integers(0, 40))
def test_a_replay_up_to_any_event_goes_on_as_the_original_did(steps: list[str | int], searched: bool, cut: int) -> None:
    first = begin()
    if searched:
        first.close_search(first.open_search("fs_1", ["q"]), results=None)
    perform(first, steps)
    first.close_output(completed=True, failed=False)
    first.lifecycle("response.completed", status="completed")
    number, events = first.take_pending()
    assert number == 0
    assert [orjson.loads(event)["sequence_number"] for event in events] == list(range(len(events)))
    assert first.take_pending() == (len(events), [])

    second = Assembler(new_body())
    second.replay(events[:cut])
    second.replay(events[cut:])
    assert second.next_number == len(events)
    assert second.response == first.response
    text = "".join(step for step in steps if isinstance(step, str))
    assert second.output[-1]["content"][0]["text"] == text
    assert second.output[-1]["content"][0]["annotations"] == [
        {"type": "file_citation", "index": step} for step in steps if isinstance(step, int)
    ]


@given(steps=STEPS)
def test_a_snapshot_has_the_text_so_far_and_leaves_the_record_alone(steps: list[str | int]) -> None:
    assembler = begin()
    perform(assembler, steps)
    _, events = assembler.take_pending()
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
        assembler = begin()
        assembler.open_search("fs_1", ["q"])
        assembler.delta(assembler.open_message("msg_1"), "half")
        assembler.close_output(completed=completed, failed=failed)
        assert [item["status"] for item in assembler.output] == [search, message]
        before = assembler.next_number
        assembler.close_output(completed=completed, failed=failed)
        assert assembler.next_number == before


def test_the_type_is_the_first_key_of_every_event() -> None:
    assembler = begin()
    perform(assembler, ["a", 1])
    assert all(event.startswith(b'{"type":"response.') for event in assembler.take_pending()[1])
