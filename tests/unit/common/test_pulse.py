"""Signs of life in event streams that are silent."""

import asyncio
from typing import Any

import pytest
from cloister_common.pulse import PULSE, asked_pulse, pulsing

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"Content-Type", b"text/event-stream; charset=utf-8")],
}
EVENT = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
END = {"type": "http.response.body", "body": b"data: [DONE]\n\n"}
SIGN = {"type": "http.response.body", "body": PULSE, "more_body": True}


class Sent:
    """A server's side: what it was sent, and a way to wait for so many signs of life."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self._changed = asyncio.Condition()

    async def __call__(self, message: Any) -> None:
        async with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    async def signs(self, wanted: int) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.messages.count(SIGN) >= wanted)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"5", 5.0),
        (b"0.25", 0.25),
        (b"0", 0.01),
        (b"-1", 0.01),
        (b"1e9", 60.0),
        (b"inf", 60.0),
        (b"nan", None),
        (b"x", None),
    ],
)
def test_the_caller_says_how_much_silence_it_bears(value: bytes, seconds: float | None) -> None:
    assert asked_pulse([(b"accept", b"*/*"), (b"x-cloister-pulse", value)]) == seconds


def test_who_does_not_ask_gets_none() -> None:
    assert asked_pulse([(b"accept", b"*/*")]) is None


async def test_silence_has_signs_of_life_before_between_and_not_after_the_events() -> None:
    sent = Sent()
    with pulsing(sent, 0.01) as send:
        await send(START)
        await sent.signs(2)
        await send(EVENT)
        await sent.signs(4)
        await send(END)
        before = list(sent.messages)
        assert [message for message in before if message != SIGN] == [START, EVENT, END]
        assert before[1:3] == [SIGN, SIGN]
        assert before[-1] == END
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "pulse" and not task.cancelling()]


async def test_an_answer_that_is_no_event_stream_has_none() -> None:
    sent = Sent()
    with pulsing(sent, 0.01) as send:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "pulse"]


async def test_signs_end_where_the_work_is_given_up() -> None:
    sent = Sent()
    with pulsing(sent, 0.01) as send:
        await send(START)
        await sent.signs(1)
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "pulse"]
    await asyncio.wait({task}, timeout=20)
    assert task.cancelled()


async def test_a_silence_without_end_has_no_signs_without_end() -> None:
    sent = Sent()
    with pulsing(sent, 0.01, longest=0.05) as send:
        await send(START)
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "pulse"]
        await asyncio.wait({task}, timeout=20)
        assert task.done()
        assert not task.cancelled()


async def test_a_sign_never_stands_within_a_message_that_is_under_way() -> None:
    slow = asyncio.Event()
    order: list[str] = []

    async def server(message: Any) -> None:
        kind = "sign" if message == SIGN else "event" if message == EVENT else "other"
        order.append(f"{kind} begins")
        if kind == "event":
            await slow.wait()
        order.append(f"{kind} ends")

    with pulsing(server, 0.01) as send:
        await send(START)
        event = asyncio.ensure_future(send(EVENT))
        async with asyncio.timeout(20):
            while "event begins" not in order:
                await asyncio.sleep(0)
            waiting = asyncio.get_running_loop().time() + 0.05
            while asyncio.get_running_loop().time() < waiting:
                await asyncio.sleep(0)
            slow.set()
            await event
    at = order.index("event begins")
    assert order[at + 1] == "event ends"
