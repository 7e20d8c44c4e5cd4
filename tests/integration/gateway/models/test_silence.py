"""Streams that are silent for long, on a pod that works on them."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import orjson
import pytest
from cloister_common.errors import CloisterError
from cloister_common.pulse import PULSE, asked_pulse, pulsing
from cloister_common.testing.serving import served
from cloister_gateway.models import ModelUpstream
from starlette.types import Message, Receive, Scope, Send

from tests.integration.gateway.models.test_upstream import upstream
from tests.support.payloads import payloads_of
from tests.support.waiting import until

BORNE = {"first_token_seconds": 3, "token_seconds": 3}
"""More than a machine stands still, and every sign of life with it."""
SIGNS = 5
"""The gateway asks for four in the silence that it bears: so many are more than that."""

EVENTS = [b'data: {"choices": [{"delta": {"content": "%d"}}]}\n\n' % number for number in range(3)]


class QuietPod:
    """Answers after a long silence, and is silent again before its last event.

    Args:
        alive: Whether it gives the signs of life that it is asked for.
    """

    def __init__(self, *, alive: bool = True) -> None:
        self.asked = 0
        self._alive = alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/health":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        self.asked += 1
        while (await receive()).get("more_body"):
            pass
        seconds = asked_pulse(scope["headers"])
        assert seconds is not None
        signs = 0

        async def counted(message: Message) -> None:
            nonlocal signs
            is_sign = message.get("body") == PULSE
            signs += is_sign
            if self._alive or not is_sign:
                await send(message)

        with pulsing(counted, seconds) as pulsed:
            head = [(b"content-type", b"text/event-stream")]
            await pulsed({"type": "http.response.start", "status": 200, "headers": head})
            await until(lambda: signs >= SIGNS, seconds=60, what="the silence has lasted")
            await pulsed({"type": "http.response.body", "body": b"".join(EVENTS[:2]), "more_body": True})
            await until(lambda: signs >= 2 * SIGNS, seconds=60, what="the silence has lasted again")
            await pulsed({"type": "http.response.body", "body": EVENTS[2], "more_body": True})
            await pulsed({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def test_a_silent_stream_of_a_pod_that_lives_comes_whole_and_without_its_signs(tmp_path: Path) -> None:
    async def blocks(llm: ModelUpstream) -> list[bytes]:
        return [block async for block in llm.stream_events("fake", {"messages": []}, tenant="t")]

    async def texts(llm: ModelUpstream) -> list[str]:
        async with aclosing(payloads_of(llm, "fake", {"messages": []}, tenant="t")) as payloads:
            return [orjson.loads(payload)["choices"][0]["delta"]["content"] async for payload in payloads]

    pod = QuietPod()
    with served(pod) as url:
        async with upstream(tmp_path, url, **BORNE) as llm:
            came, said = await asyncio.gather(blocks(llm), texts(llm))
    assert b"".join(came) == b"".join(EVENTS) + b"data: [DONE]\n\n"
    assert said == ["0", "1", "2"]
    assert pod.asked == 2


async def test_a_silent_stream_without_a_sign_is_given_up(tmp_path: Path) -> None:
    pod = QuietPod(alive=False)
    with served(pod) as url:
        async with upstream(tmp_path, url, first_token_seconds=0.4, token_seconds=0.4) as llm:
            with pytest.raises(CloisterError):
                [block async for block in llm.stream_events("fake", {"messages": []}, tenant="t")]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_signs_are_taken_out_however_the_bytes_are_cut(tmp_path: Path, size: int) -> None:
    raw = PULSE + EVENTS[0] + PULSE + PULSE + EVENTS[1] + EVENTS[2] + PULSE + b"data: [DONE]\n\n"

    async def pod(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for at in range(0, len(raw), size):
            await send({"type": "http.response.body", "body": raw[at : at + size], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with served(pod) as url:
        async with upstream(tmp_path, url) as llm:
            blocks = [block async for block in llm.stream_events("fake", {"messages": []}, tenant="t")]
    assert b"".join(blocks) == b"".join(EVENTS) + b"data: [DONE]\n\n"
