"""What a connection may take before anybody has looked at its key, with raw sockets, on every kind of port."""

import base64
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloister_common.testing.serving import free_port

from tests.support.certificates import certificate_for
from tests.support.waiting import wait_until

HEAD = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
LIMITS: dict[str, Any] = {
    "connections": 64,
    "head_bytes": 8192,
    "headers": 50,
    "head_seconds": 1.0,
    "body_bytes_per_second": 100,
    "body_window_seconds": 1.0,
    "body_seconds": 2.5,
    "unread_seconds": 1.0,
    "frames_per_message": 32,
    "frames_per_second": 200,
    "frame_bytes_per_second": 1_000_000,
}
SLOW_SECONDS = 2.0
"""Longer than the limits that a response, or a body that nobody reads yet, must outlive."""


@dataclass(frozen=True)
class Server:
    """A tiny service as a process."""

    port: int
    metrics_port: int
    ca_file: Path | None = None

    def connect(self) -> socket.socket:
        """A new connection, which gives up after 20 s."""
        connection = socket.create_connection(("127.0.0.1", self.port), 20)
        if self.ca_file is None:
            return connection
        return ssl.create_default_context(cafile=str(self.ca_file)).wrap_socket(connection, server_hostname="127.0.0.1")

    def ask(self) -> bytes:
        """The answer to a request that has nothing wrong."""
        with self.connect() as connection:
            connection.sendall(HEAD + b"connection: close\r\n\r\n")
            return rest(connection)

    def answers(self) -> bool:
        """Whether it has started."""
        with contextlib.suppress(OSError):
            return self.ask().startswith(b"HTTP/1.1 200")
        return False


@contextlib.contextmanager
def serving(folder: Path, *, tls: bool = False, **limits: Any) -> Iterator[Server]:
    server: dict[str, Any] = {"port": free_port(), "metrics_port": free_port(), "limits": LIMITS | limits}
    ca_file = None
    if tls:
        ca_file, key = certificate_for("127.0.0.1", folder / "tls")
        server["tls"] = {"certificate_file": str(ca_file), "key_file": str(key)}
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump({"server": server, "slow_seconds": SLOW_SECONDS}))
    command = [sys.executable, "-m", "tests.support.tiny_service", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    started = Server(server["port"], server["metrics_port"], ca_file)
    try:
        wait_until(started.answers, seconds=60, what="the service has started")
        yield started
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module", params=["plain", "tls"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp(request.param), tls=request.param == "tls") as started:
        yield started


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("plain")) as started:
        yield started


def rest(connection: socket.socket) -> bytes:
    """All that still comes, until the connection ends."""
    pieces = []
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def error_of(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and error object of the answer that ends the connection."""
    head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]


def send(connection: socket.socket, data: bytes) -> None:
    """Sends ``data``, or as much of it as is taken."""
    with contextlib.suppress(OSError):
        connection.sendall(data)


def ask_on(connection: socket.socket) -> None:
    """A request and its answer on a connection that stays open."""
    connection.sendall(HEAD + b"\r\n")
    answer = b""
    while not answer.endswith(b'{"status":"ok"}'):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece


def trickle(connection: socket.socket, pieces: Callable[[], bytes], *, pause: float = 0.2) -> threading.Thread:
    """Sends a piece now and then until the connection ends."""

    def work() -> None:
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(pieces())
                time.sleep(pause)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


POST = b"POST /upload HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEAD + b"x: " + b"a" * 20_000, id="a header without an end"),
        pytest.param(HEAD + b"x: " + b"a" * 20_000 + b"\r\n\r\n", id="a long header"),
        pytest.param(HEAD + b"a" * 20_000, id="a long name"),
        pytest.param(HEAD + b"x: " + b"a" * 4000 + b"\r\ny: " + b"a" * 5000 + b"\r\n\r\n", id="long together"),
        pytest.param(HEAD + b"a:b\r\n" * 51 + b"\r\n", id="many headers"),
        pytest.param(HEAD + b"a:b\r\n" * 20_000, id="headers without an end"),
        pytest.param(b"GET /" + b"a" * 20_000, id="a line without an end"),
        pytest.param(b"GET /?" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", id="a long line"),
        pytest.param(HEAD + b"connection: upgrade\r\nupgrade: websocket\r\nx: " + b"a" * 20_000, id="an upgrade"),
        pytest.param(CHUNKED + b"1;" + b"a" * 20_000, id="a chunk's extension without an end"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\nx: " + b"a" * 600_000, id="a trailer without an end"),
        pytest.param(CHUNKED + b"0\r\n" + b"a:b\r\n" * 52, id="many trailers"),
    ],
)
def test_a_head_that_is_too_large_is_a_431(plain: Server, text: bytes) -> None:
    with plain.connect() as connection:
        send(connection, text)
        status, error = error_of(connection)
    assert (status, error["code"]) == (431, "request_head_too_large")
    assert "8192 bytes in 50 headers" in error["message"]


def test_an_endless_header_is_cut_off_and_holds_nobody(server: Server) -> None:
    sent, longest = 0, 0.0
    with server.connect() as connection:
        connection.sendall(HEAD + b"x: ")
        with contextlib.suppress(OSError):
            while sent < 64 << 20:
                connection.sendall(b"a" * 65536)
                sent += 65536
                if sent % (4 << 20) == 0:
                    begun = time.monotonic()
                    server.ask()
                    longest = max(longest, time.monotonic() - begun)
    assert sent <= 8 << 20, "what the system buffers, and not more"
    assert longest < 1


@pytest.mark.parametrize("begin", [b"", b"\r\n", HEAD + b"x: "], ids=["nothing", "a line", "a header"])
def test_a_head_that_does_not_end_is_cut_off(server: Server, begin: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(begin)
        begun = time.monotonic()
        if begin:
            assert error_of(connection)[0] == 408
        else:
            assert rest(connection) == b"", "nothing was asked"
    assert time.monotonic() - begun < 10


def test_a_head_that_trickles_is_a_408_on_a_used_connection_too(server: Server) -> None:
    with server.connect() as connection:
        ask_on(connection)
        connection.sendall(HEAD)
        sender = trickle(connection, lambda: b"a")
        status, error = error_of(connection)
        connection.close()
    sender.join()
    assert (status, error["code"]) == (408, "request_timeout")


def test_a_handshake_that_does_not_end_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01" if server.ca_file else b"G")
        begun = time.monotonic()
        rest(connection)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (POST + b"content-length: 100000\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"5;", b"a"),
        (CHUNKED + b"1\r\nx\r\n0\r\nx: ", b"a"),
        (b"POST /livez HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 900\r\n\r\n", b"x"),
    ],
    ids=["by length", "in chunks", "an extension", "a trailer", "a body nobody wants"],
)
def test_a_body_that_trickles_is_cut_off(plain: Server, begin: bytes, piece: bytes) -> None:
    with plain.connect() as connection:
        connection.sendall(begin)
        sender = trickle(connection, lambda: piece)
        answer = rest(connection)
        connection.close()
    sender.join()
    if b"expect" in begin:
        assert answer.startswith(b"HTTP/1.1 405"), "the answer stands; only the connection ends"
        assert answer.count(b"HTTP/1.1") == 1
    else:
        assert answer.startswith(b"HTTP/1.1 408")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


def test_a_body_that_is_fast_enough_but_endless_is_a_408(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall(POST + b"content-length: 1000000\r\n\r\n")
        begun = time.monotonic()
        sender = trickle(connection, lambda: b"x" * 500)
        status, _ = error_of(connection)
        connection.close()
    sender.join()
    assert status == 408
    assert time.monotonic() - begun >= LIMITS["body_seconds"]


def test_a_slow_upload_over_the_least_rate_arrives(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(POST + b"connection: close\r\ncontent-length: 1600\r\n\r\n")
        for _ in range(8):
            connection.sendall(b"x" * 200)
            time.sleep(0.2)
        answer = rest(connection)
    assert answer.endswith(b"\r\n\r\n1600")


def test_a_client_is_not_blamed_for_an_application_that_reads_late(plain: Server) -> None:
    size = 1 << 24
    with plain.connect() as connection:
        connection.sendall(b"POST /lazy HTTP/1.1\r\nhost: x\r\nconnection: close\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n" % size + bytes(size))
        assert rest(connection).endswith(b"\r\n\r\n%d" % size)


def test_a_response_outlives_all_limits_with_half_a_request_behind_it_too(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nGET /li")
        begun = time.monotonic()
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            answer += connection.recv(65536)
        assert b"ended" in answer
        assert time.monotonic() - begun >= SLOW_SECONDS - 0.1
        assert error_of(connection)[0] == 408, "its time begins when the response has ended"


def test_a_response_that_nobody_reads_is_given_up(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.recv(16)
        time.sleep(LIMITS["unread_seconds"] + 1.0)  # reading is what must not happen meanwhile
        assert len(rest(connection)) < 1 << 26


def test_an_idle_connection_can_be_used_again(plain: Server) -> None:
    with plain.connect() as connection:
        ask_on(connection)
        time.sleep(LIMITS["head_seconds"] + 0.3)  # idling is what must be allowed
        ask_on(connection)


def test_trailers_do_not_pose_as_headers(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall(CHUNKED + b"1\r\nx\r\n0\r\nconnection: upgrade\r\nauthorization: x\r\n\r\n" + HEAD)
        connection.sendall(b"connection: close\r\n\r\n")
        answer = rest(connection)
    assert answer.count(b"HTTP/1.1 200") == 2


def test_requests_sent_ahead_without_end_are_cut_off(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n" + (HEAD + b"\r\n") * 1000)
        begun = time.monotonic()
        rest(connection)
    assert time.monotonic() - begun < SLOW_SECONDS - 0.2


def test_a_few_requests_sent_ahead_are_answered_in_turn(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall((HEAD + b"\r\n") * 9 + HEAD + b"connection: close\r\n\r\n")
        assert rest(connection).count(b"HTTP/1.1 200") == 10


@pytest.mark.parametrize(
    "text",
    [b"nonsense\r\n\r\n", POST + b"content-length: x\r\n\r\n", CHUNKED + b"z\r\n", CHUNKED + b"1\r\nx\r\n" * 100_000],
    ids=["no request", "no length", "no chunk", "chunks of a byte"],
)
def test_what_is_no_http_is_a_400_in_openais_shape(plain: Server, text: bytes) -> None:
    with plain.connect() as connection:
        send(connection, text)
        status, error = error_of(connection)
    assert (status, error["code"]) == (400, "invalid_http")


@pytest.mark.parametrize("coding", [b"gzip", b"GZIP", b"zstd", b"br", b"identity, gzip", b"anything"])
@pytest.mark.parametrize("path", [b"/upload", b"/livez", b"/nowhere"])
def test_a_compressed_body_is_refused_before_it_is_read(plain: Server, coding: bytes, path: bytes) -> None:
    with plain.connect() as connection:
        connection.sendall(b"POST " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: ")
        connection.sendall(coding + b"\r\ncontent-length: 900\r\n\r\n")
        status, error = error_of(connection)
    assert (status, error["code"], error["param"]) == (415, "unsupported_media_type", "Content-Encoding")


def test_a_body_named_as_it_is_passes(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall(POST + b"connection: close\r\ncontent-encoding: Identity\r\ncontent-length: 2\r\n\r\nhi")
        assert rest(connection).endswith(b"\r\n\r\n2")


def test_at_the_limit_of_connections_the_longest_waiting_makes_room(tmp_path: Path) -> None:
    with serving(tmp_path, connections=16, head_seconds=60) as server, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(server.connect()) for _ in range(16)]
        assert server.ask().startswith(b"HTTP/1.1 200")
        assert rest(waiting[0]) == b""
        ask_on(waiting[-1])


def test_when_all_connections_are_at_work_a_new_one_is_a_503(tmp_path: Path) -> None:
    with serving(tmp_path, connections=16) as server, contextlib.ExitStack() as stack:
        working = [stack.enter_context(server.connect()) for _ in range(16)]
        for connection in working:
            connection.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        for connection in working:
            assert b"HTTP/1.1 200" in connection.recv(65536)
        with server.connect() as one_more:
            status, error = error_of(one_more)
        assert (status, error["code"]) == (503, "unavailable")


def test_the_metrics_port_has_the_same_limits(plain: Server) -> None:
    metrics = Server(plain.metrics_port, plain.metrics_port)
    with metrics.connect() as half_open, metrics.connect() as endless, metrics.connect() as reader:
        half_open.sendall(b"GET /metrics HTTP/1.1\r\nx: ")
        endless.sendall(b"GET /metrics HTTP/1.1\r\nx: " + b"a" * 20_000)
        assert error_of(endless)[0] == 431
        reader.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b'cloister_connections_refused_total{reason="head"}' in rest(reader)
        assert error_of(half_open)[0] == 408


# WebSockets


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([0x80 * last | opcode]) + length + bytes(4) + payload


def open_socket(server: Server, more: bytes = b"") -> socket.socket:
    connection = server.connect()
    key = base64.b64encode(bytes(16))
    connection.sendall(
        b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: " + key + b"\r\n" + more + b"\r\n"
    )
    return connection


@contextlib.contextmanager
def opened(server: Server) -> Iterator[socket.socket]:
    """A WebSocket after its handshake."""
    with open_socket(server) as connection:
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(1)
        assert answer.startswith(b"HTTP/1.1 101")
        yield connection


def close_of(connection: socket.socket) -> tuple[int, str]:
    """Code and reason of the close frame that ends the connection."""
    frames = rest(connection)
    while frames[0] != 0x88:
        frames = frames[2 + frames[1] :]  # pongs and short answers
    return int.from_bytes(frames[2:4], "big"), frames[4 : 2 + frames[1]].decode()


TEXT, CONTINUATION, PING, PONG = 1, 0, 9, 10
FLOODS = {
    "fragments of a byte": frame(TEXT, b"a", last=False) + frame(CONTINUATION, b"a", last=False) * 40_000,
    "empty fragments": frame(TEXT, b"", last=False) + frame(CONTINUATION, b"", last=False) * 40_000,
    "pings": frame(PING, b"a" * 125) * 40_000,
    "pongs": frame(PONG, b"") * 40_000,
    "messages": frame(TEXT, b"") * 40_000,
    "pings inside a message": frame(TEXT, b"", last=False) + frame(PING, b"") * 40_000,
    "bytes": frame(TEXT, b"a" * 300_000) * 20,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_frames_closes_its_socket_with_the_reason(server: Server, flood: str) -> None:
    code, word = (1009, "fragments") if "fragments" in flood else (1008, "bytes a" if flood == "bytes" else "frames a")
    with opened(server) as other, opened(server) as connection:
        send(connection, FLOODS[flood])
        other.sendall(frame(TEXT, b"hello"))
        assert other.recv(3) == b"\x81\x015"
        found = close_of(connection)
    assert found[0] == code
    assert word in found[1]


def test_a_message_in_a_few_fragments_with_a_ping_between_passes(plain: Server) -> None:
    fragments = frame(TEXT, b"a", last=False) + frame(PING, b"p") + frame(CONTINUATION, b"b")
    with opened(plain) as connection:
        connection.sendall(fragments)
        assert b"".join(connection.recv(1) for _ in range(6)) == b"\x8a\x01p\x81\x012"


def test_frames_before_the_handshakes_end_hold_nothing(plain: Server) -> None:
    with open_socket(plain, b"\r\n" + FLOODS["pings"]) as connection:
        rest(connection)
    assert plain.ask().startswith(b"HTTP/1.1 200")


def test_a_handshake_whose_header_no_websocket_takes_is_a_431(tmp_path: Path) -> None:
    with (
        serving(tmp_path, head_bytes=32768) as server,
        open_socket(server, b"x: " + b"a" * 9000 + b"\r\n") as connection,
    ):
        assert error_of(connection)[0] == 431
