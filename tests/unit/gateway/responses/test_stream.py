"""The stream of a response that is yet to be made: its status, its silence, its reader."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cloister_common.errors import Conflict
from cloister_gateway.admission.middleware import WAITED_SINCE
from cloister_gateway.responses.stream import CreatedStream
from cloister_gateway.settings import ResponsesSettings
from starlette.types import Message

from tests.support.waiting import until

EVENTS = [b'{"type":"response.created","sequence_number":0}', b'{"type":"response.completed","sequence_number":1}']
KEYED = cast("Any", SimpleNamespace(id="resp_1"))
COMMENT = b": keep-alive\n\n"


class Service:
    """Gives the events of every response."""

    async def events(self, _: Any, *, after: int) -> AsyncGenerator[list[bytes], None]:
        assert after == -1
        for event in EVENTS:
            yield [event]


class Call:
    """One request for a stream."""

    def __init__(self, make: Callable[[], Awaitable[Any]], *, keep_alive: float = 0.02, **state: Any) -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        settings = ResponsesSettings(keep_alive_seconds=keep_alive)
        response = CreatedStream(make, cast("Any", Service()), settings)
        scope = {"type": "http", "state": state}
        self.task = asyncio.ensure_future(response(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return cast("int", self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def headers(call: Call) -> dict[bytes, bytes]:
    return dict(call.sent[0]["headers"])


FRAMES = b"".join(b"event: %b\ndata: %b\n\n" % (json.loads(event)["type"].encode(), event) for event in EVENTS)


async def test_a_response_that_is_made_at_once_is_streamed() -> None:
    async def make() -> Any:
        return KEYED

    call = Call(make, keep_alive=10)
    await call.task
    assert (call.status, call.body) == (200, FRAMES)
    assert headers(call)[b"content-type"].startswith(b"text/event-stream")
    assert call.sent[-1].get("more_body", False) is False


async def test_while_it_is_made_comments_go_out() -> None:
    release = asyncio.Event()

    async def make() -> Any:
        await release.wait()
        return KEYED

    call = Call(make)
    await until(lambda: call.body.count(COMMENT) >= 3, what="comments")
    release.set()
    await call.task
    assert [message["type"] for message in call.sent].count("http.response.start") == 1
    assert (call.status, headers(call)[b"cache-control"]) == (200, b"no-cache")
    assert call.body.replace(COMMENT, b"") == FRAMES


async def test_an_error_before_the_first_comment_is_an_http_error() -> None:
    async def make() -> Any:
        raise Conflict("Another turn goes on.", code="conversation_locked")

    call = Call(make, keep_alive=10)
    await call.task
    assert (call.status, json.loads(call.body)["error"]["code"]) == (409, "conversation_locked")


async def test_an_error_after_it_is_the_last_event() -> None:
    release = asyncio.Event()

    async def make() -> Any:
        await release.wait()
        raise Conflict("Another turn goes on.", code="conversation_locked")

    call = Call(make)
    await until(lambda: COMMENT in call.body, what="a comment")
    release.set()
    await call.task
    assert call.status == 200
    kind, _, data = call.body.replace(COMMENT, b"").partition(b"\ndata: ")
    assert (kind, json.loads(data)["code"]) == (b"event: error", "conversation_locked")
    assert call.sent[-1].get("more_body", False) is False


@pytest.mark.parametrize("fails", [False, True])
async def test_what_has_begun_is_made_whole_though_its_reader_leaves(fails: bool) -> None:
    release, made = asyncio.Event(), asyncio.Event()

    async def make() -> Any:
        await release.wait()
        made.set()
        if fails:
            raise Conflict("Another turn goes on.")
        return KEYED

    call = Call(make)
    await asyncio.sleep(0)
    call.gone.set()
    await until(lambda: COMMENT in call.body, what="a comment")
    assert not call.task.done()
    release.set()
    await call.task
    assert made.is_set()
    assert call.body.replace(COMMENT, b"") == b""


async def test_a_credential_that_ends_meanwhile_ends_it() -> None:
    async def make() -> Any:
        await asyncio.Event().wait()

    call = Call(make)
    await until(lambda: COMMENT in call.body, what="a comment")
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task


async def test_time_in_the_queue_counts_as_silence() -> None:
    async def make() -> Any:
        await asyncio.Event().wait()

    call = Call(make, keep_alive=1000, **{WAITED_SINCE: asyncio.get_running_loop().time() - 1001})
    await until(lambda: COMMENT in call.body, what="a comment")
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task
