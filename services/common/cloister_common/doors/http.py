"""uvicorn's HTTP protocol with limits: a head and a body end in time and in size, or the connection does.

The clocks stand still while it is not the client who is waited for: while a response is on its way, and while reading
is paused because the application has not taken what came. A request that comes whole in one piece, as nearly all do,
sets no timer; the way of a response is uvicorn's own, untouched.

What passes a limit is answered in OpenAI's shape, and the connection is closed once the client had the time to read
why: closing at once, with bytes unread, would reset it, which may take the answer away again.
"""

import sys
from asyncio import Transport
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cloister_common.doors.answers import LastAnswer, answer, answer_in_1_0
from cloister_common.doors.door import REFUSED, Door
from cloister_common.doors.handshake import REFUSAL_HEADERS, check_handshake
from cloister_common.doors.refusals import body_is_slow, chunks_are_small, head_is_large, head_is_late
from cloister_common.doors.upgrades import without_upgrade
from cloister_common.errors import CloisterError, HeadTooLarge, InvalidRequest, Unavailable

__all__ = ["BoundedHttp"]

_MOST_PIPELINED = 16
"""Requests that may wait on a connection for the ones before them. Clients of today send none ahead."""

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 128 * 1024
"""How long, and for how many more bytes, a refused client is listened to so that it can read the answer."""


class _Refused(Exception):
    """Stops the parser in the middle of what it was given."""


class BoundedHttp(HttpToolsProtocol):
    """One connection of a `Door`.

    It is always in one of two parts of a request: the head, before whose first byte it is idle, or the body. A
    response may be on its way in either.
    """

    def __init__(self, *arguments: Any, door: Door, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._door = door
        self._limits = door.limits
        # uvicorn makes the protocol when the connection is accepted, before the TLS handshake.
        self._accepted = self.loop.time()
        self.headers = []
        self._clock: Any = None  # the timer of the part that is waited for
        self._unread: Any = None  # runs while the client takes nothing of a response
        self._in_body = False
        self._head = 0  # bytes since the head began, at most; 0: it has not
        self._content = 0  # bytes of the body without its framing
        self._framed = 0  # bytes of the body with its framing
        self._barren = 0  # bytes of framing since the last content
        self._window = 0  # bytes of the body in this window
        self._window_begun = 0.0
        self._was_paused = False
        self._body_begun = 0.0
        self._refusal: tuple[CloisterError, str] | None = None
        self._refused = False
        self._ignored = 0
        self._parsed = b""  # what the parser is given
        self._beyond = 0  # bytes at its end that come later
        self._upgrade_ignored = False  # the parser is about to be given the request without it

    # The connection

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Takes its place, if there is one."""
        full = len(self.connections) >= self._limits.connections
        super().connection_made(transport)
        self._answers_go_to = LastAnswer(transport, self._end)
        if full and not self._door.make_room():
            error = Unavailable("The server has its limit of open connections. Try again.", retry_after=1)
            self._refuse(error, "connections")
            return
        self._door.waits(self, transport.abort)
        self._start(self._accepted + self._limits.head_seconds - self.loop.time(), self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leaves nothing behind."""
        self._stop()
        self._read_again()
        self._door.waits_no_more(self)
        self._answers_go_to.close = self.transport.close  # it held this connection
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses, then looks at what the request has become."""
        if self._refused:
            self._ignored += len(data)
            if self._ignored > _LINGER_BYTES:
                self.transport.abort()
            return
        content: int | None = None
        if self._in_body:
            content = self._content
            self._framed += len(data)
            self._window += len(data)
        else:
            data = self._take_head(data)
            if not data:
                return
        self._parsed = data
        super().data_received(data)
        self._parsed = b""
        if self._gone():
            return
        if self._in_body:
            self._look_at_body(len(data) if content == self._content else 0)
        elif self._head:
            self._look_at_head()
        elif self.timeout_keep_alive_task is None and self.cycle is not None and self.cycle.response_complete:
            # The rest of a body whose answer came before its end: uvicorn has stopped the idle clock for good.
            self._wait_idle()

    def _take_head(self, data: bytes) -> bytes:
        """Counts what begins in a head; gives what is left to be parsed of it, nothing where it was refused."""
        room = self._limits.head_bytes - self._head
        self._head += len(data)
        if len(data) <= room:
            return data
        # Most of this is a body, or an attack, for which nothing is to be done.
        self._parsed, self._beyond = data, len(data) - room
        super().data_received(data[:room])
        self._beyond = 0
        if self._gone():
            return b""
        if self._head > self._limits.head_bytes:
            self._refuse(head_is_large(self._limits), "head")
            return b""
        if not self._in_body:
            self._head += len(data) - room
        return data[room:]

    def _gone(self) -> bool:
        return self._refused or self.transport.is_closing() or self.transport.get_protocol() is not self

    def handle_websocket_upgrade(self) -> None:
        """Hands over what has been read, unless it opens no WebSocket; that protocol has limits of its own."""
        self._stop()
        self._read_again()
        accept, error = check_handshake(self.scope["method"], self.scope["http_version"], self.url, self.headers)
        if error is not None:
            self._refused = True
            REFUSED.labels("head" if isinstance(error, HeadTooLarge) else "invalid").inc()
            self.transport.write(answer(error, REFUSAL_HEADERS))
            self.transport.close()
            return
        self.connections.discard(self)
        # It says where the request ends. No client may send frames before it is answered, but what is sent all the
        # same must not be lost: whether it comes in one piece with the request is the network's choice.
        ended = cast("httptools.HttpParserUpgrade", sys.exception())
        protocol = self.ws_protocol_class(  # type: ignore[call-arg, misc]
            config=self.config,
            server_state=self.server_state,
            request=self.scope,
            url=self.url,
            accept=accept,
            ahead=self._parsed[ended.args[0] :],
        )
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        # They hold each other: the collector would find them much later.
        self.parser = None  # type: ignore[assignment]
        self._answers_go_to.close = self.transport.close

    def _unsupported_upgrade_warning(self) -> None:
        """Where uvicorn gives up a request with an upgrade that nobody here does: it is read as one without."""
        ended = cast("httptools.HttpParserUpgrade", sys.exception())
        head = without_upgrade(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        behind = self._parsed[ended.args[0] : len(self._parsed) - self._beyond]
        self._upgrade_ignored, self._beyond = False, 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._head, self._parsed = len(head), head + behind
        super().data_received(self._parsed)

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to all that the parser refuses, ours included."""
        error = InvalidRequest("This is not a valid HTTP/1.1 request.", code="invalid_http")
        self._refuse(*(self._refusal or (error, "invalid")))

    # What the parser finds

    def on_message_begin(self) -> None:
        """A head begins, maybe behind the request before it."""
        self._head = self._head or 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The request can begin."""
        if len(self.headers) > self._limits.headers:
            self._stop_parser(head_is_large(self._limits), "head")
        if self._head > self._limits.head_bytes:
            # At most so many: the body may have come with it.
            exact = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if exact > self._limits.head_bytes:
                self._stop_parser(head_is_large(self._limits), "head")
        if len(self.pipeline) >= _MOST_PIPELINED:
            error = InvalidRequest("Too many requests are sent ahead on this connection. Wait for the answers.")
            self._stop_parser(error, "pipelined")
        if self.parser.should_upgrade():
            if not self._should_upgrade():
                self._upgrade_ignored = True
                return
            self._check_upgrade()
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            self.cycle.transport = cast("Transport", self._answers_go_to)
            if self.scope["http_version"] == "1.0":
                answer_in_1_0(self.cycle, keep_alive=self.parser.should_keep_alive())
        self._stop()
        self._door.waits_no_more(self)
        self._in_body = True
        if self.cycle is not None and self.cycle.scope is self.scope:
            # What comes as trailers must not pose as headers of a request that has begun.
            self.headers = []
        self._head = self._content = self._framed = self._barren = self._window = 0

    def _check_upgrade(self) -> None:
        """A request that becomes a WebSocket is the last on its connection, and the only one."""
        if any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 "))
            for name, value in self.headers
        ):
            error = InvalidRequest("A WebSocket's request has no body.", code="invalid_http")
            self._stop_parser(error, "invalid")
        if self._answering():
            error = InvalidRequest("A WebSocket is opened after the answers to all requests. Wait for them.")
            self._stop_parser(error, "pipelined")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._content += len(body)
        super().on_body(body)
        if self.flow.read_paused:
            self._was_paused = True

    def on_message_complete(self) -> None:
        """The request is whole; what comes now is the next one's."""
        if self._upgrade_ignored:
            return
        self._stop()
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The client is waited for again."""
        super().on_response_complete()
        if self.transport.is_closing() or self._refused or self._answering():
            return
        if self._in_body:
            # The answer came before the body's end, and nobody wants the rest: it is read for a while, so that the
            # client, who may still be sending, is not reset before it reads the answer.
            self._stop()
            self._unset_keepalive_if_required()
            self._start(self._limits.head_seconds, self.transport.abort)
        elif self._head:
            self._unset_keepalive_if_required()
            self._start(self._limits.head_seconds, self._head_is_late)
        else:
            self._door.waits(self, self.transport.abort)

    # Clients that do not read

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self._limits.unread_seconds, self._is_unread)

    def resume_writing(self) -> None:
        """It has read."""
        self._read_again()
        super().resume_writing()

    def _read_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _is_unread(self) -> None:
        REFUSED.labels("unread").inc()
        self.transport.abort()

    # Clients that send too much or too slowly

    def _start(self, seconds: float, late: Callable[[], None]) -> None:
        self._clock = self.loop.call_later(max(0.0, seconds), late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _answering(self) -> bool:
        """Whether a response is due: that of the request that was parsed last, which comes after all before it."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.disconnected

    def _wait_idle(self) -> None:
        self._door.waits(self, self.transport.abort)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _head_is_late(self) -> None:
        self._clock = None
        if self._head:
            self._refuse(head_is_late(self._limits), "head_seconds")
        else:
            # Nothing was asked, so nothing is answered.
            REFUSED.labels("head_seconds").inc()
            self.transport.abort()

    def _look_at_head(self) -> None:
        """After a piece of a head that goes on."""
        if self._head > self._limits.head_bytes or len(self.headers) > self._limits.headers:
            self._refuse(head_is_large(self._limits), "head")
        elif self._clock is None and not self._answering():
            self._start(self._limits.head_seconds, self._head_is_late)

    def _look_at_body(self, barren: int) -> None:
        """After a piece of a body that goes on; ``barren`` are its bytes if none of them were content."""
        self._barren = self._barren + barren if barren else 0
        if self._barren > self._limits.head_bytes or len(self.headers) > self._limits.headers:
            self._refuse(head_is_large(self._limits), "head")  # extensions of a chunk, or trailers
        elif self._framed > 2 * self._content + self._limits.head_bytes:
            self._refuse(chunks_are_small(), "chunks")
        elif self._clock is None:
            self._body_begun = self.loop.time()
            self._begin_window()

    def _body_window_ends(self) -> None:
        self._clock = None
        limits, now = self._limits, self.loop.time()
        if self._was_paused:
            self._body_begun += now - self._window_begun  # the application's time, not the client's
        needed = limits.body_bytes_per_second * limits.body_window_seconds
        blameless = self._was_paused or self.cycle.waiting_for_100_continue
        too_slow = self._window < needed and not blameless
        if too_slow or now - self._body_begun >= limits.body_seconds:
            self._refuse(body_is_slow(limits), "body_seconds")
            return
        self._window = 0
        self._begin_window()

    def _begin_window(self) -> None:
        self._window_begun = self.loop.time()
        self._was_paused = self.flow.read_paused
        self._start(self._limits.body_window_seconds, self._body_window_ends)

    def _stop_parser(self, error: CloisterError, reason: str) -> None:
        """From a callback of the parser: ends its work, `send_400_response` does the rest."""
        self._refusal = (error, reason)
        raise _Refused

    def _refuse(self, error: CloisterError, reason: str) -> None:
        """Answers where that is possible, and closes."""
        REFUSED.labels(reason).inc()
        self._refused = True
        self._stop()
        self._door.waits_no_more(self)
        own = self._in_body and not self.pipeline
        if self._answering() if not own else self.cycle.response_started:
            # In the middle of an answer, or behind one, there is no place for another.
            self.transport.abort()
            return
        if own:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(answer(error))
        if reason == "head" and self.transport.can_write_eof():
            # Whoever sends megabytes of headers is not listened to any longer; what was a little too long is here.
            self.transport.close()
        else:
            self._linger()

    def _end(self) -> None:
        """Closes the connection behind its last answer, which a client may have yet to read that is still sending."""
        if self._in_body and not self._refused:
            self._refused = True
            self._stop()
            self._linger()
        elif not self._refused:
            self.transport.close()

    def _linger(self) -> None:
        if self.transport.can_write_eof():  # not under TLS, whose closing would read on
            self.transport.write_eof()
        self.flow.resume_reading()
        self._start(_LINGER_SECONDS, self.transport.abort)
