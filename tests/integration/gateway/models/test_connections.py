"""The HTTP client of the pods: what it keeps, what it lets go, and how it says that a pod is lost."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cloister_common.testing.serving import free_port
from cloister_gateway.models.connections import PodClient, PodLostError, PodUnreachedError
from cloister_gateway.models.pods import Pod

from tests.support.certificates import certificate_for
from tests.support.waiting import until

SECONDS = 20
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class RawPod:
    """Takes connections and requests, and does with them what a test says.

    Attributes:
        heads, bodies: Of the requests that came.
        connections: How many were opened.
        ended: Those whose client has hung up.
    """

    def __init__(self, serve: Callable[["RawPod", Streams], Awaitable[None]]) -> None:
        self._serve = serve
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.ended = asyncio.Event()

    async def request(self, streams: Streams) -> bool:
        """Reads one request; false where the client has hung up instead."""
        head = await streams[0].readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.heads.append(head)
        self.bodies.append(await streams[0].readexactly(length))
        return True

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(self, (reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.set()
        finally:
            writer.close()


async def answers(pod: RawPod, streams: Streams) -> None:
    """A pod that is well."""
    while await pod.request(streams):
        streams[1].write(WHOLE)


def says(answer: bytes) -> Callable[[RawPod, Streams], Awaitable[None]]:
    """A pod that sends ``answer`` and hangs up."""

    async def serve(pod: RawPod, streams: Streams) -> None:
        await pod.request(streams)
        streams[1].write(answer)

    return serve


@asynccontextmanager
async def opened(
    serve: Callable[[RawPod, Streams], Awaitable[None]], *, client_tls: Any = None, server_tls: Any = None
) -> AsyncIterator[tuple[RawPod, Pod, PodClient]]:
    raw = RawPod(serve)
    server = await asyncio.start_server(raw, "127.0.0.1", 0, ssl=server_tls)
    scheme = "http" if server_tls is None else "https"
    client = PodClient({"authorization": "Bearer t"}, client_tls or ssl.create_default_context(), connect_seconds=2)
    async with server, asyncio.timeout(SECONDS):
        yield raw, Pod(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"), client
        await client.close()


async def ask(client: PodClient, pod: Pod, body: bytes = b"{}") -> bytes:
    async with await client.post(pod, "/v1/x", body) as answer:
        return await answer.read()


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with opened(answers) as (raw, pod, client):
        assert [await ask(client, pod) for _ in range(3)] == [b"hi"] * 3
        assert raw.connections == 1
        assert raw.heads[0].startswith(b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:")
        assert b"\r\nauthorization: Bearer t\r\n" in raw.heads[0]


async def test_requests_at_one_time_have_connections_of_their_own() -> None:
    async with opened(answers) as (raw, pod, client):
        assert await asyncio.gather(*(ask(client, pod) for _ in range(5))) == [b"hi"] * 5
        assert raw.connections == 5


async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloister_gateway.models.connections._KEEP_ALIVE_SECONDS", 0)
    async with opened(answers) as (raw, pod, client):
        assert [await ask(client, pod) for _ in range(2)] == [b"hi"] * 2
        assert raw.connections == 2


async def test_a_connection_that_the_pod_closed_is_not_used_again() -> None:
    async with opened(says(WHOLE)) as (raw, pod, client):
        await ask(client, pod)
        while client.open:
            await asyncio.sleep(0.01)
        assert await ask(client, pod) == b"hi"
        assert raw.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"this is no HTTP\r\n\r\n",
    ],
)
async def test_an_answer_without_its_end_is_a_lost_pod(answer: bytes) -> None:
    async with opened(says(answer)) as (_, pod, client):
        with pytest.raises(PodLostError) as lost:
            await ask(client, pod)
        assert not isinstance(lost.value, PodUnreachedError)


async def test_a_pod_that_takes_no_connection_is_not_reached() -> None:
    async with opened(answers) as (_, _pod, client):
        with pytest.raises(PodUnreachedError):
            await ask(client, Pod(f"http://127.0.0.1:{free_port()}"))


async def closes_at_the_second(pod: RawPod, streams: Streams) -> None:
    """A pod that has just closed an idle connection when the next request comes."""
    await pod.request(streams)
    streams[1].write(WHOLE)
    await pod.request(streams)


async def test_a_request_that_meets_the_end_of_an_idle_connection_is_sent_on_another() -> None:
    async with opened(closes_at_the_second) as (raw, pod, client):
        assert [await ask(client, pod, body) for body in (b"1", b"2")] == [b"hi"] * 2
        assert (raw.connections, raw.bodies) == (2, [b"1", b"2", b"2"])


async def test_a_pod_that_goes_away_with_a_request_is_lost_and_not_merely_unreached() -> None:
    raw = RawPod(closes_at_the_second)
    server = await asyncio.start_server(raw, "127.0.0.1", 0)
    client = PodClient({}, ssl.create_default_context(), connect_seconds=2)
    async with server, asyncio.timeout(SECONDS):
        pod = Pod(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await ask(client, pod)
        server.close()
        with pytest.raises(PodLostError) as lost:
            await ask(client, pod)
        await client.close()
    assert not isinstance(lost.value, PodUnreachedError)


async def test_what_comes_before_an_answer_is_passed_over() -> None:
    async def hints(pod: RawPod, streams: Streams) -> None:
        await pod.request(streams)
        streams[1].write(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await asyncio.sleep(0.05)  # so that it comes by itself
        streams[1].write(WHOLE)

    async with opened(hints) as (_, pod, client), await client.post(pod, "/", b"{}") as answer:
        assert (answer.status, await answer.read()) == (200, b"hi")


async def test_a_second_answer_to_one_request_is_nobodys() -> None:
    more = WHOLE + b"HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\nmore"

    async def says_more(raw: RawPod, streams: Streams) -> None:
        while await raw.request(streams):
            streams[1].write(more)

    async with opened(says_more) as (raw, pod, client):
        for _ in range(2):
            async with await client.post(pod, "/", b"{}") as answer:
                assert (answer.status, await answer.read()) == (200, b"hi")
        assert raw.connections == 2


async def test_leaving_before_the_end_hangs_up() -> None:
    async def begins(raw: RawPod, streams: Streams) -> None:
        await raw.request(streams)
        streams[1].write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await raw.request(streams)

    async with opened(begins) as (raw, pod, client):
        async with await client.post(pod, "/", b"{}") as answer:
            assert (answer.status, await answer.piece()) == (200, b"one")
        await raw.ended.wait()


async def test_a_call_that_is_cancelled_hangs_up() -> None:
    async def waits(raw: RawPod, streams: Streams) -> None:
        await raw.request(streams)
        await raw.request(streams)

    async with opened(waits) as (raw, pod, client):
        call = asyncio.create_task(ask(client, pod))
        while not raw.heads:
            await asyncio.sleep(0.01)
        call.cancel()
        await raw.ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_large_body_comes_whole() -> None:
    body = bytes(range(256)) * 40_000
    async with opened(answers) as (raw, pod, client):
        assert await ask(client, pod, body) == b"hi"
        assert raw.bodies == [body]


# The longer pause is one in which all the buffers on the way fill up.
@pytest.mark.parametrize("pause", [0.0, 0.5])
async def test_a_pod_that_answers_before_it_has_read_all_is_heard_and_its_connection_is_not_kept(pause: float) -> None:
    async def refuses(_: RawPod, streams: Streams) -> None:
        await streams[0].readuntil(b"\r\n\r\n")
        await asyncio.sleep(pause)
        streams[1].write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await streams[1].drain()
        await asyncio.sleep(SECONDS)

    async with opened(refuses) as (_, pod, client):
        async with await client.post(pod, "/", b"x" * 50_000_000) as answer:
            assert (answer.status, await answer.read()) == (413, b"no")
        while client.open:
            await asyncio.sleep(0.01)


async def test_a_pod_waits_for_a_reader_who_does_not_read() -> None:
    written = 0
    piece = b"x" * 100_000

    async def writes(raw: RawPod, streams: Streams) -> None:
        nonlocal written
        await raw.request(streams)
        streams[1].write(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
        for _ in range(500):
            streams[1].write(piece)
            await streams[1].drain()
            written += len(piece)

    async with opened(writes) as (_, pod, client), await client.post(pod, "/", b"{}") as answer:
        before = -1
        while written > before:
            before = written
            await asyncio.sleep(0.1)
        assert written < 20_000_000  # what the system's own buffers take, and no more
        assert len(await answer.read()) == 50_000_000


async def test_a_certificate_must_be_of_the_name_that_was_asked_for(tmp_path: Path) -> None:
    certificate, key = certificate_for("pod.example", tmp_path)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(certificate, key)
    client_tls = ssl.create_default_context(cafile=str(certificate))
    async with opened(answers, client_tls=client_tls, server_tls=server_tls) as (_, pod, client):
        assert await ask(client, Pod(pod.url, "pod.example")) == b"hi"
        for name in (None, "other.example"):
            with pytest.raises(PodUnreachedError):
                await ask(client, Pod(pod.url, name))


class Pace:
    """Has readers wait until `begin`."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], bool]] = []

    def __call__(self, go_on: Callable[[], bool]) -> bool:
        self.waiting.append(go_on)
        return True

    def begin(self) -> list[bool]:
        waiting, self.waiting = self.waiting, []
        return [go_on() for go_on in waiting]


async def test_what_comes_until_a_reader_goes_on_is_one_piece_and_the_end_is_told_at_once() -> None:
    more, sent = asyncio.Event(), asyncio.Event()

    async def in_chunks(raw: RawPod, streams: Streams) -> None:
        await raw.request(streams)
        _, writer = streams
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in (b"1\r\na\r\n", b"1\r\nb\r\n"):
            writer.write(part)
            await asyncio.sleep(0)
        sent.set()
        await more.wait()
        writer.write(b"1\r\nc\r\n0\r\n\r\n")
        await streams[0].read()

    pace = Pace()
    async with opened(in_chunks) as (_, pod, client), await client.post(pod, "/v1/x", b"{}") as answer:
        reading = asyncio.create_task(answer.piece(pace))
        await sent.wait()
        pieces = b""
        while pieces != b"ab":  # TCP may bring them apart
            await until(lambda: bool(pace.waiting), what="the reader waits for its time")
            assert not reading.done()
            await until(lambda: bool(answer._pieces), what="something has come")
            assert pace.begin() == [True]
            pieces += await reading
            reading = asyncio.create_task(answer.piece(pace))
        more.set()
        assert await reading == b"c"
        assert await answer.piece(pace) == b""


async def test_a_client_that_is_closed_opens_nothing_more_and_comes_to_its_end() -> None:
    async def silent(pod: RawPod, streams: Streams) -> None:
        await pod.request(streams)
        await pod.request(streams)

    async with opened(silent) as (_, pod, client):
        first = asyncio.create_task(ask(client, pod))
        await until(lambda: client.open == 1)
        # It begins to connect while the client waits for what it has cut off.
        closing, second = asyncio.create_task(client.close()), asyncio.create_task(ask(client, pod))
        await closing
        for request in (first, second):
            with pytest.raises(PodLostError):
                await request
        assert client.open == 0
        with pytest.raises(PodUnreachedError):
            await ask(client, pod)
