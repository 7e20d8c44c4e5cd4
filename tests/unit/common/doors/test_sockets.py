"""One socket of a port below ASGI: its pings, its room, its ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from cloister_common.doors import websocket
from cloister_common.doors.frame_writer import FRAMES, FrameWriter
from cloister_common.doors.frames import CLOSE, PING, TEXT, close_payload, frame, text_frames
from cloister_common.doors.pings import Pings
from cloister_common.doors.websocket import BoundedWebSocket
from cloister_common.settings import ConnectionLimits
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from tests.support.waiting import until

Application = Callable[[Any, Any, Any], Awaitable[None]]
REQUEST = {
    "asgi": {"version": "3.0"}, "scheme": "http", "server": ("h", 1), "client": ("c", 2), "state": {},
    "headers": [(b"sec-websocket-protocol", b"a, b")],
}  # fmt: skip


class Transport:
    """Stands for uvloop's; keeps what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def taken(self) -> bytes:
        """What was written since this was asked last."""
        written, self.written = self.written, b""
        return written


def client_text(text: bytes) -> bytes:
    return bytes([0x80 | TEXT, 0x80 | len(text)]) + bytes(4) + text


def client_close(code: int) -> bytes:
    return bytes([0x80 | CLOSE, 0x80 | 2]) + bytes(4) + code.to_bytes(2)


def connected(
    application: Application, *, pings: Pings | None = None, ahead: bytes = b""
) -> tuple[BoundedWebSocket, Transport]:
    class Config:
        loaded_app = staticmethod(application)
        root_path = ""
        ws_max_size = 1 << 20

    socket = BoundedWebSocket(
        config=cast("Any", Config),
        server_state=ServerState(),
        request=REQUEST,
        url=b"/a%20b?c",
        accept=b"key",
        limits=ConnectionLimits(),
        pings=pings or Pings(0, patience=20),
        ahead=ahead,
    )
    transport = Transport()
    socket.connection_made(cast("Any", transport))
    return socket, transport


class Recorder:
    """An application that accepts, and keeps what it is told until the client has gone."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.hold: asyncio.Event | None = None  # what it waits for after each message
        self.scope: Any = None
        self.send: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.send = scope, send
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while not self.messages or self.messages[-1]["type"] != "websocket.disconnect":
            self.messages.append(await receive())
            if self.hold is not None:
                await self.hold.wait()

    @property
    def frames(self) -> FrameWriter:
        return cast("FrameWriter", self.scope["extensions"][FRAMES])

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.messages if "text" in message]


async def accepted(*, pings: Pings | None = None) -> tuple[BoundedWebSocket, Transport, Recorder]:
    application = Recorder()
    socket, transport = connected(application, pings=pings)
    assert not transport.reading  # What comes before the handshake's end waits in the kernel.
    await until(lambda: transport.written, what="the handshake ends")
    assert transport.taken().startswith(b"HTTP/1.1 101 ")
    return socket, transport, application


async def test_the_scope_says_what_was_asked() -> None:
    _, _, application = await accepted()
    scope = application.scope
    assert (scope["type"], scope["path"], scope["query_string"]) == ("websocket", "/a b", b"c")
    assert (scope["scheme"], scope["subprotocols"]) == ("ws", ["a", "b"])


async def test_while_messages_wait_no_more_are_read() -> None:
    socket, transport, application = await accepted()
    socket.data_received(client_text(b"1") + client_text(b"2") + client_text(b"3"))
    assert not transport.reading
    await until(lambda: application.texts == ["1", "2", "3"], what="all are taken")
    assert transport.reading


async def test_errors_pings_and_joined_frames_go_out_in_the_order_they_were_written() -> None:
    socket, transport, application = await accepted()
    application.frames.write(text_frames([b"1", b"2"]))
    socket.data_received(bytes([0x89, 0x81]) + bytes(4) + b"p")
    await application.send({"type": "websocket.send", "text": "3"})
    application.frames.write(text_frames([b"4"]))
    await application.send({"type": "websocket.close", "code": 4401, "reason": "why"})
    assert not application.frames.write(text_frames([b"5"]))
    joined = text_frames([b"1", b"2"]) + b"\x8a\x01p" + text_frames([b"3", b"4"])
    assert transport.written == joined + frame(CLOSE, close_payload(4401, "why"))


async def test_a_full_socket_says_so_and_calls_when_there_is_room() -> None:
    socket, transport, application = await accepted()
    called = []
    application.frames.on_room = lambda: called.append(1)
    socket.pause_writing()
    assert not application.frames.write(text_frames([b"1"]))
    sending = asyncio.create_task(application.send({"type": "websocket.send", "text": "2"}))
    given_up = asyncio.create_task(application.send({"type": "websocket.send", "text": "3"}))
    await asyncio.sleep(0)
    given_up.cancel()
    assert transport.written == text_frames([b"1"])
    socket.resume_writing()
    await sending
    assert called == [1]
    assert transport.written == text_frames([b"1", b"2"])


async def test_a_client_that_goes_ends_what_waits_for_it() -> None:
    socket, _, application = await accepted()
    told = []
    application.frames.on_room = lambda: told.append(application.frames.gone)
    socket.pause_writing()
    sending = asyncio.create_task(application.send({"type": "websocket.send", "text": "2"}))
    await asyncio.sleep(0)
    socket.connection_lost(None)
    with pytest.raises(ClientDisconnected):
        await sending
    await until(lambda: application.messages, what="the application is told")
    assert application.messages == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
    assert told == [True]
    assert not application.frames.write(text_frames([b"1"]))


async def test_a_ping_that_is_not_answered_closes_its_socket_and_no_other() -> None:
    pings = Pings(0.08, patience=0.05)
    (deaf, lost, _), (alive, kept, application) = await accepted(pings=pings), await accepted(pings=pings)
    for _ in range(3):
        await until(lambda: kept.written, what="a ping")
        ping = kept.taken()
        assert ping[0] == 0x80 | PING
        alive.data_received(bytes([0x8A, 0x88]) + bytes(4) + ping[2:])
    await until(lambda: lost.written[10:], what="the end of patience")
    assert lost.written[10:] == frame(CLOSE, close_payload(1011, "keepalive ping timeout"))
    assert application.messages == []
    deaf.connection_lost(None)
    alive.connection_lost(None)


async def test_an_application_that_fails_before_it_accepts_is_a_500() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError

    _, transport = connected(fails)
    await until(lambda: transport.closed, what="the answer")
    assert transport.written.startswith(b"HTTP/1.1 500 ")


async def test_a_refusal_is_an_answer_of_http() -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"{", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"}"})

    _, transport = connected(refuses)
    await until(lambda: transport.closed, what="the answer")
    head, _, body = transport.written.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 429 Too Many Requests", b"{}")
    assert head.count(b"content-length") == 1


async def test_a_message_for_a_reader_that_was_cancelled_just_now_is_the_next_ones() -> None:
    socket, _, _ = await accepted()
    [reading] = [task for task in asyncio.all_tasks() if task.get_name() == "websocket"]
    reading.cancel()
    socket.data_received(client_text(b"1"))
    assert (await socket.receive())["text"] == "1"
    await asyncio.gather(reading, return_exceptions=True)
    socket.connection_lost(None)


async def test_a_client_that_closes_but_reads_no_more_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_CLOSE_SECONDS", 0.01)
    socket, transport, _ = await accepted()
    socket.data_received(client_close(1000))
    assert transport.written == frame(CLOSE, close_payload(1000, ""))
    assert transport.closed  # which waits until all is sent
    await until(lambda: transport.aborted, what="it is cut off")


async def test_nobody_is_given_up_for_an_answer_that_was_not_read() -> None:
    pings = Pings(0.016, patience=0.05)
    socket, transport, application = await accepted(pings=pings)
    hold = asyncio.Event()
    application.hold = hold
    socket.data_received(client_text(b"1"))
    await until(lambda: application.messages, what="the application is busy")
    socket.data_received(client_text(b"2"))
    assert not transport.reading
    await until(lambda: transport.written, what="a ping")
    ping = transport.taken()
    began = asyncio.get_running_loop().time()
    await until(lambda: asyncio.get_running_loop().time() - began > 0.1, what="turns that are later than patience")
    assert transport.written == b""
    hold.set()
    await until(lambda: transport.reading, what="it is read again")
    socket.data_received(bytes([0x8A, 0x88]) + bytes(4) + ping[2:])
    await until(lambda: transport.written, what="the next ping")
    assert transport.taken()[0] == 0x80 | PING
    socket.connection_lost(None)


@pytest.mark.parametrize(("fails", "code"), [(True, 1011), (False, 1000)])
async def test_an_application_that_ends_without_closing_is_closed(fails: bool, code: int) -> None:
    async def ends(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        if fails:
            raise ValueError

    socket, transport = connected(ends)
    closing = frame(CLOSE, close_payload(code, ""))
    await until(lambda: transport.written.endswith(b"\r\n\r\n" + closing), what="the close frame")
    assert not transport.closed
    socket.data_received(client_close(code))
    assert transport.closed
    socket.connection_lost(None)


async def test_what_came_with_the_request_is_read_when_it_is_accepted() -> None:
    application = Recorder()
    socket, _ = connected(application, ahead=client_text(b"1") + client_text(b"2")[:3])
    await until(lambda: application.texts == ["1"], what="the first message")
    socket.data_received(client_text(b"2")[3:])
    await until(lambda: application.texts == ["1", "2"], what="the second message")
    socket.connection_lost(None)
