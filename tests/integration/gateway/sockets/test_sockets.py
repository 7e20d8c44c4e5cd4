"""OpenAI's WebSocket mode: the unmodified SDK, several turns on one connection, lanes, and our additions."""

import json
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.gateway import GatewayFixture
from tests.support.sockets import ask, numbers, opened, receive, send, text_of, turn, until_text
from tests.support.waiting import wait_until


def test_the_sdks_connection_makes_several_turns(client: Any, llm: FakeLlm) -> None:
    with client.responses.connect() as connection:
        previous = None
        for number in range(3):
            connection.response.create(model="fake", input=f"turn {number}", previous_response_id=previous)
            events = []
            for event in connection:
                events.append(event)
                if event.type == "response.completed":
                    break
            assert [event.sequence_number for event in events] == list(range(len(events)))
            previous = events[-1].response.id
    assert [message["role"] for message in llm.chats()[-1]["messages"]] == ["user", "assistant"] * 2 + ["user"]


async def test_the_async_sdks_connection_works_too(gateway: GatewayFixture, gateway_url: str) -> None:
    async with (
        openai.AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key=gateway.project_key) as client,
        client.responses.connect() as connection,
    ):
        await connection.response.create(model="fake", input="hi")
        kinds = []
        async for event in connection:
            kinds.append(event.type)
            if event.type == "response.completed":
                break
    assert kinds[:2] == ["response.created", "response.in_progress"]


def test_requests_without_a_lane_are_answered_one_after_the_other(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    with opened(gateway_url, gateway) as socket:
        for number in range(4):
            ask(socket, f"q{number}")
        turns = [turn(socket) for _ in range(4)]
    assert [numbers(events) for events in turns] == [list(range(len(events))) for events in turns]
    assert [body["messages"][-1]["content"] for body in llm.chats()] == ["q0", "q1", "q2", "q3"]
    assert all("stream_id" not in event for events in turns for event in events)


def test_lanes_run_side_by_side_and_name_themselves(gateway: GatewayFixture, gateway_url: str, llm: FakeLlm) -> None:
    llm.hold_after = 1
    with opened(gateway_url, gateway) as socket:
        for lane in ("a", "b", "c"):
            ask(socket, stream_id=lane)
        wait_until(lambda: llm.running == 3)
        llm.release()
        events: list[dict[str, Any]] = []
        while len([event for event in events if event["type"] == "response.completed"]) < 3:
            events.append(receive(socket))
    for lane in ("a", "b", "c"):
        mine = [event for event in events if event["stream_id"] == lane]
        assert numbers(mine) == list(range(len(mine)))
        assert text_of(mine) == "".join(llm.answer)


def test_any_number_of_lanes_may_follow_each_other(gateway: GatewayFixture, gateway_url: str) -> None:
    with opened(gateway_url, gateway) as socket:
        for number in range(20):
            ask(socket, stream_id=f"lane {number}")
            assert {event["stream_id"] for event in turn(socket)} == {f"lane {number}"}


def test_subscribing_resumes_after_a_number_at_any_gateway(
    gateway: GatewayFixture, gateway_url: str, other_url: str, llm: FakeLlm
) -> None:
    llm.hold_after = 3
    with opened(gateway_url, gateway) as socket:
        ask(socket)
        events = until_text(socket, "Hello, this")
    response_id = events[0]["response"]["id"]
    llm.release()
    with opened(other_url, gateway) as socket:
        send(socket, "response.subscribe", response_id=response_id, starting_after=events[-1]["sequence_number"])
        rest = turn(socket)
        assert numbers([*events, *rest]) == list(range(len(events) + len(rest)))
        assert text_of([*events, *rest]) == "".join(llm.answer)
        send(socket, "response.subscribe", response_id=response_id, stream_id="again")
        again = turn(socket)
    assert [{**event, "stream_id": "again"} for event in [*events, *rest]] == again


def test_subscribing_where_a_response_has_ended_gives_its_last_event_again(
    gateway: GatewayFixture, gateway_url: str, other_url: str
) -> None:
    with opened(gateway_url, gateway) as socket:
        ask(socket)
        last = turn(socket)[-1]
    for url in (gateway_url, other_url):
        with opened(url, gateway) as socket:
            for beyond in (0, 1, 1000):
                after = last["sequence_number"] + beyond
                send(socket, "response.subscribe", response_id=last["response"]["id"], starting_after=after)
                assert receive(socket) == last


def test_a_second_device_sees_the_conversations_runs_live(
    gateway: GatewayFixture, gateway_url: str, other_url: str, client: Any, llm: FakeLlm
) -> None:
    conversation = client.conversations.create()
    with opened(gateway_url, gateway) as first, opened(other_url, gateway) as second:
        send(second, "conversation.subscribe", conversation_id=conversation.id, stream_id="c")
        assert receive(second)["type"] == "conversation.subscribed"
        send(first, "conversation.subscribe", conversation_id=conversation.id, stream_id="c")
        assert receive(first)["type"] == "conversation.subscribed"
        for store in (True, False):
            llm.hold_after = 2
            ask(first, conversation=conversation.id, store=store)
            here, there = until_text(first, "Hello,"), until_text(second, "Hello,")
            llm.release()
            here += turn(first)
            there += turn(second)
            # The device that asked gets its events once, although it watches the conversation too.
            assert [{**event, "stream_id": "c"} for event in here] == there
            assert numbers(here) == list(range(len(here)))
        # Who comes in the middle gets what is being made, from its beginning.
        llm.hold_after = 2
        ask(first, conversation=conversation.id)
        until_text(first, "Hello,")
        with opened(other_url, gateway) as third:
            send(third, "conversation.subscribe", conversation_id=conversation.id)
            assert receive(third)["type"] == "conversation.subscribed"
            seen = until_text(third, "Hello,")
            llm.release()
            assert numbers([*seen, *turn(third)])[0] == 0


def test_cancelling_over_the_socket_ends_the_last_response(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    llm.hold_after = 2
    with opened(gateway_url, gateway) as socket:
        send(socket, "response.cancel")
        assert receive(socket)["error"]["param"] == "response_id"
        ask(socket)
        events = until_text(socket, "Hello,")
        send(socket, "response.cancel")
        events += turn(socket)
        assert events[-1]["response"]["status"] == "cancelled"
        assert numbers(events) == list(range(len(events)))
        wait_until(lambda: llm.running == 0)
        llm.release()
        ask(socket)
        assert turn(socket)[-1]["type"] == "response.completed"


def test_unstored_responses_can_be_continued_on_their_own_socket_only(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    with opened(gateway_url, gateway) as socket, opened(gateway_url, gateway) as stranger:
        ask(socket, "one", store=False)
        first = turn(socket)[-1]["response"]["id"]
        ask(stranger, "x", previous_response_id=first)
        refused = receive(stranger)
        assert (refused["status"], refused["error"]["code"]) == (404, "previous_response_not_found")
        send(stranger, "response.subscribe", response_id=first)
        assert receive(stranger)["status"] == 404
        ask(socket, "two", previous_response_id=first, store=False)
        assert turn(socket)[-1]["response"]["status"] == "completed"
        send(socket, "response.subscribe", response_id=first)
        assert turn(socket)[-1]["response"]["id"] == first
    assert [message["content"] for message in llm.chats()[-1]["messages"]][::2] == ["one", "two"]


def test_closing_the_socket_does_not_cancel(
    gateway: GatewayFixture, gateway_url: str, client: Any, llm: FakeLlm
) -> None:
    llm.hold_after = 2
    with opened(gateway_url, gateway) as socket:
        ask(socket)
        events = until_text(socket, "Hello,")
    llm.release()
    response_id = events[0]["response"]["id"]
    wait_until(lambda: client.responses.retrieve(response_id).status == "completed")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer clo_wrong"}])
def test_a_handshake_without_a_good_key_is_an_http_401(headers: dict[str, str], gateway_url: str) -> None:
    address = gateway_url.replace("http", "ws", 1) + "/v1/responses"
    with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=headers, proxy=None):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["type"] == "authentication_error"


def test_a_closed_socket_is_closed_for_both_sides(gateway: GatewayFixture, gateway_url: str) -> None:
    with opened(gateway_url, gateway) as socket:
        socket.close()
        with pytest.raises(ConnectionClosed):
            socket.recv(30)
