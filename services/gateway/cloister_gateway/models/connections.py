"""HTTP/1.1 to the llm pods, with as little between a pod's bytes and their reader as a token allows.

A request costs 15 µs of CPU here, and 140 with aiohttp; httpx costs three times that for each streamed token. What
makes the difference is what is not there: redirects, cookies, proxies, compression, and objects for each of them. A
pod is a server of ours, so what it sends is short of surprises, and whatever surprises is a pod that is lost.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Self, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import httptools

from cloister_gateway.models.pods import Pod

__all__ = ["Answer", "Pace", "PodClient", "PodLostError", "PodUnreachedError"]

_KEEP_ALIVE_SECONDS = 4.0
"""Below the 5 s after which uvicorn, in vLLM, closes an idle connection: else a request may meet the closing."""

_PIECE_BYTES = 64 * 1024
"""A large body is sent in pieces, between which others have their turn."""

_UNREAD_BYTES = 256 * 1024
"""What may wait here for its reader before the pod is made to wait."""


Pace = Callable[[Callable[[], bool]], bool]
"""When a reader takes its next piece: what it is called with is called then, and says whether there is one. False where
that is at once."""


class PodLostError(Exception):
    """A pod went away before its answer's end, or sent what is no HTTP."""


class PodUnreachedError(PodLostError):
    """A pod does not accept connections: no request arrived."""


class _UnansweredError(PodLostError):
    """A pod went away before it said anything."""


class PodClient:
    """Connections to pods, kept for the next request.

    Args:
        headers: Of every request.
        tls: For pods whose address is https.
        connect_seconds: The longest a pod may take to accept.
    """

    def __init__(self, headers: Mapping[str, str], tls: ssl.SSLContext, *, connect_seconds: float) -> None:
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._idle: WeakKeyDictionary[Pod, deque[_Connection]] = WeakKeyDictionary()
        self._open: set[_Connection] = set()
        self._closed = False

    async def get(self, pod: Pod, path: str, headers: str = "") -> "Answer":
        """As `post`."""
        return await self._ask(pod, f"GET {path}", b"", headers)

    async def post(self, pod: Pod, path: str, body: bytes, headers: str = "") -> "Answer":
        """The answer of ``pod``, whose head has come; ``async with`` it. Cancelling the call takes the request back.

        Args:
            pod: Who is asked.
            path: For what.
            body: With what.
            headers: More headers of this request alone, each with its line's end.

        Raises:
            PodLostError: The pod cannot be reached (`PodUnreachedError`) or goes away.
        """
        return await self._ask(pod, f"POST {path}", body, headers)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    async def close(self) -> None:
        """Cuts off all that is open. Who asks from now on reaches no pod."""
        self._closed = True
        while self._open:
            for connection in tuple(self._open):
                connection.abort()
            await asyncio.sleep(0)  # the loop tells each of them in its next round

    async def _ask(self, pod: Pod, what: str, body: bytes, headers: str = "") -> "Answer":
        kept = self._kept(pod)
        if kept is None or pod.chooses:
            return await self._ask_on(kept or await self._connect(pod), what, body, headers)
        try:
            return await self._ask_on(kept, what, body, headers)
        except _UnansweredError as error:
            # The pod may have closed it while the request was on its way, which is nobody's fault.
            try:
                connection = await self._connect(pod)
            except PodUnreachedError:
                raise error from None  # It went away with this request, and maybe by it.
        return await self._ask_on(connection, what, body, headers)

    async def _ask_on(self, connection: "_Connection", what: str, body: bytes, headers: str) -> "Answer":
        head = f"{what} HTTP/1.1\r\nhost: {connection.host}\r\ncontent-length: {len(body)}\r\n{headers}"
        answer = Answer(connection)
        try:
            await answer.ask(b"%b%b\r\n" % (head.encode(), self._headers), body)
        except BaseException:
            answer.close()
            raise
        return answer

    def _kept(self, pod: Pod) -> "_Connection | None":
        idle = self._idle.get(pod, ())
        while idle:
            connection = idle.pop()
            if connection.is_fresh():
                return connection
            connection.abort()
        return None

    async def _connect(self, pod: Pod) -> "_Connection":
        if self._closed:
            raise PodUnreachedError
        idle = self._idle.setdefault(pod, deque())
        url = urlsplit(pod.url)
        secure = url.scheme == "https"
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(url.netloc, idle, self._open),
                    url.hostname or "",
                    url.port or (443 if secure else 80),
                    ssl=self._tls if secure else None,
                    server_hostname=(pod.server_name or url.hostname) if secure else None,
                )
        except OSError as error:  # a `TimeoutError` is one too, and what is wrong with a certificate
            raise PodUnreachedError from error
        if self._closed:
            connection.abort()
            raise PodUnreachedError
        return connection


class _Connection(asyncio.Protocol):
    """One connection, which serves one `Answer` after the other.

    Args:
        host: What the pod is called in requests.
        idle: Where it waits between them.
        open_: All that are open.
    """

    def __init__(self, host: str, idle: "deque[_Connection]", open_: "set[_Connection]") -> None:
        self.host = host
        self.lost = False
        self._idle = idle
        self._open = open_
        self._loop = asyncio.get_running_loop()
        self._answer: Answer | None = None
        self._idle_since = 0.0
        self._writable: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by its class.
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()  # Nothing was asked.
        else:
            self._answer.feed(data)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._open.discard(self)
        if self in self._idle:
            self._idle.remove(self)
        self.resume_writing()
        if self._answer is not None:
            self._answer.lose()

    def is_fresh(self) -> bool:
        """Whether the pod will not have closed it yet."""
        closed = self.lost or self._transport.is_closing()
        return not closed and self._loop.time() - self._idle_since < _KEEP_ALIVE_SECONDS

    async def begin(self, answer: "Answer", head: bytes, body: bytes) -> bool:
        """Sends a request, whose answer goes to ``answer``; says whether the pod wanted all of it."""
        self._answer = answer
        self._transport.write(head + body[:_PIECE_BYTES])
        for start in range(_PIECE_BYTES, len(body), _PIECE_BYTES):
            await (self._writable or asyncio.sleep(0))
            if self.lost or answer.status:
                return False
            self._transport.write(body[start : start + _PIECE_BYTES])
        return True

    def answered(self) -> None:
        """The pod waits for the next request from now on, whenever this answer is read."""
        self._idle_since = self._loop.time()

    def end(self, *, reusable: bool) -> None:
        """Waits for the next request, or closes."""
        self._answer = None
        if reusable and not self.lost and not self._transport.is_closing():
            self._idle.append(self)
        else:
            self.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def abort(self) -> None:
        """Closes at once: the pod stops working on what was asked."""
        if not self.lost:
            self._transport.abort()


class Answer:
    """One answer: ``async with`` it. Leaving before its end closes the connection, which ends the work in the pod.

    Attributes:
        status: Of its head; 0 before that has come.
    """

    def __init__(self, connection: _Connection) -> None:
        self.status = 0
        self._connection: _Connection | None = connection
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._held = False
        self._begun = False
        self._lost = False
        self._whole = False
        self._reusable = False
        self._sent = False
        self._waiter: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def ask(self, head: bytes, body: bytes) -> None:
        """Sends the request and waits for the answer's head."""
        assert self._connection is not None
        self._sent = await self._connection.begin(self, head, body)
        while not self.status:
            await self._more()

    async def piece(self, pace: Pace | None = None) -> bytes:
        """What has come since the last, or comes next; nothing at the end.

        Args:
            pace: Of the reader. What comes meanwhile is one piece for which it is woken once; the end is told at once.

        Raises:
            PodLostError: There was no end.
        """
        if pace is not None and not (self._whole or self._lost) and pace(self._go_on):
            self._held = True
            try:
                await self._more()
            finally:
                self._held = False
        while not self._pieces:
            if self._whole:
                return b""
            await self._more()
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._unread = 0
        if self._paused and self._connection is not None:
            self._paused = False
            self._connection.resume_reading()
        return piece

    async def read(self, most: int | None = None) -> bytes:
        """All of the body, or as soon as there are ``most`` bytes, those. Raises `PodLostError` as `piece`."""
        pieces, size = [], 0
        while (most is None or size < most) and (piece := await self.piece()):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)[:most]

    def close(self) -> None:
        """Ends it. Who waits for more is told that the pod is lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end(reusable=self._whole and self._reusable and self._sent and not self._paused)
            self.lose()

    # From the connection

    def feed(self, data: bytes) -> None:
        """Takes what came."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lost, self._reusable = True, False
        if self._unread > _UNREAD_BYTES and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause_reading()
        if not self._held or self._whole or self._lost or self._paused:
            self._wake()

    def lose(self) -> None:
        """Takes that nothing more comes."""
        self._lost = True
        self._wake()

    # From the parser

    def on_message_begin(self) -> None:
        if self._whole:
            raise PodLostError("there is more than one answer")
        self._begun = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:  # What comes before (``103 Early Hints``) is no answer yet.
            self.status = status
            if self._connection is not None:
                self._connection.resume_writing()  # Whoever still sends the request need not go on.

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._unread += len(body)

    def on_message_complete(self) -> None:
        if not self.status:
            return
        self._whole = True
        self._reusable = self._parser.should_keep_alive()
        if self._connection is not None:
            self._connection.answered()

    async def _more(self) -> None:
        if self._lost:
            raise PodLostError if self._begun else _UnansweredError
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _go_on(self) -> bool:
        self._wake()
        return bool(self._pieces)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
