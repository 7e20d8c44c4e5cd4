"""Readers come late, come back, and come to another gateway: all see the same events from their own place."""

import threading
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import Installation, joined_text
from tests.support.waiting import wait_until


def raw(events: list[Any]) -> list[dict[str, Any]]:
    return [event.to_dict() for event in events]


def test_every_starting_after_gives_exactly_the_rest(client: Any, other: Any) -> None:
    events = list(client.responses.create(model="fake", input="hi", stream=True))
    response_id = events[-1].response.id
    for reader in (client, other):
        assert raw(list(reader.responses.retrieve(response_id, stream=True))) == raw(events)
        for after in range(len(events)):
            rest = list(reader.responses.retrieve(response_id, stream=True, starting_after=after))
            assert raw(rest) == raw(events[after + 1 :])


def test_reader_after_the_stream_was_dropped_gets_the_finished_response(
    client: Any, other: Any, installation: Installation
) -> None:
    final = client.responses.create(model="fake", input="hi")
    with installation.redis.client() as redis:
        key = f"resp:{{{final.id}}}:events"
        assert redis.exists(key)
        wait_until(lambda: redis.zadd("runs:ended", {final.id: 1}, xx=True, ch=True), what="the end of the run")
        wait_until(lambda: not redis.exists(key), what="the drop of the stream")
    events = list(other.responses.retrieve(final.id, stream=True, starting_after=4))
    assert [(event.type, event.sequence_number) for event in events] == [("response.completed", 5)]
    assert events[0].response.to_dict() == final.to_dict()
    assert other.responses.retrieve(final.id).to_dict() == final.to_dict()


def test_another_gateway_watches_a_run_live(client: Any, other: Any, llm: FakeLlm) -> None:
    llm.hold_after = 2
    with client.responses.create(model="fake", input="hi", stream=True) as here:
        first = next(iter(here))
        with other.responses.retrieve(first.response.id, stream=True) as there:
            seen: list[Any] = []
            for event in there:
                seen.append(event)
                if joined_text(seen) == "Hello,":
                    break
            half = other.responses.retrieve(first.response.id)
            assert (half.status, half.output_text) == ("in_progress", "Hello,")
            llm.release()
            seen += list(there)
        assert raw([first, *here]) == raw(seen)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))


def test_many_readers_on_both_gateways_see_one_story(client: Any, other: Any, llm: FakeLlm) -> None:
    llm.answer = [f" {number}" for number in range(40)]
    llm.hold_after = 20
    created = client.responses.create(model="fake", input="hi", background=True)
    stories: list[list[dict[str, Any]]] = []

    def read(reader: Any, after: int | None) -> None:
        more: dict[str, Any] = {} if after is None else {"starting_after": after}
        stories.append(raw(list(reader.responses.retrieve(created.id, stream=True, **more))))

    readers = [threading.Thread(target=read, args=(one, after)) for one in (client, other) for after in (None, 3, 9)]
    for reader in readers:
        reader.start()
    llm.release()
    for reader in readers:
        reader.join(60)
    whole = max(stories, key=len)
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert sorted(map(len, stories)) == sorted([len(whole), len(whole) - 4, len(whole) - 10] * 2)
    assert all(story == whole[len(whole) - len(story) :] for story in stories)


def test_starting_after_needs_a_stream_and_a_number(client: Any, gateway_url: str, gateway: Any) -> None:
    final = client.responses.create(model="fake", input="hi")
    for query, param in (
        ("starting_after=1", "starting_after"),
        ("stream=true&starting_after=-1", "starting_after"),
        ("stream=true&starting_after=x", "starting_after"),
        ("stream=true&before=1", "before"),
    ):
        answer = httpx.get(f"{gateway_url}/v1/responses/{final.id}?{query}", headers=gateway.headers())
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_unknown", stream=True)
