"""What a connection may take before anybody has looked at its key, with raw sockets, on every kind of port."""

import contextlib
import gzip
import json
import socket
import time
from pathlib import Path

import pytest

from tests.bench.gateway.meters import cpu_seconds
from tests.support.doors import HEAD, LIMITS, SLOW_SECONDS, Server, ask_on, error_of, rest, send, serving, trickle
from tests.support.stopwatch import stopwatch

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
        pytest.param(CHUNKED + b"1;" + b"a" * 600_000, id="a chunk's extension without an end"),
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
    sent, before = 0, cpu_seconds(server.pid)
    with server.connect() as connection:
        connection.sendall(HEAD + b"x: ")
        with contextlib.suppress(OSError):
            while sent < 64 << 20:
                connection.sendall(b"a" * 65536)
                sent += 65536
                if sent % (4 << 20) == 0:
                    server.ask()
    assert sent <= 8 << 20, "what the system buffers, and not more"
    assert cpu_seconds(server.pid) - before < 1, "others wait while it computes"


@pytest.mark.parametrize("begin", [b"", b"\r\n", HEAD + b"x: "], ids=["nothing", "a line", "a header"])
def test_a_head_that_does_not_end_is_cut_off(server: Server, begin: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(begin)
        with stopwatch() as waiting:
            if begin:
                assert error_of(connection)[0] == 408
            else:
                assert rest(connection) == b"", "nothing was asked"
    assert waiting.seconds < 10


def test_a_head_that_trickles_is_a_408_on_a_used_connection_too(plain: Server) -> None:
    with plain.connect() as connection:
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
        with stopwatch() as waiting:
            rest(connection)
    assert waiting.seconds < 10


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


def test_a_body_that_is_fast_enough_but_endless_is_a_408(hasty: Server) -> None:
    with hasty.connect() as connection:
        begun = time.monotonic()
        connection.sendall(POST + b"content-length: 1000000\r\n\r\n")
        sender = trickle(connection, lambda: b"x" * 500)
        status, _ = error_of(connection)
        connection.close()
    sender.join()
    assert status == 408
    assert time.monotonic() - begun >= LIMITS["body_window_seconds"]


def test_a_slow_upload_over_the_least_rate_arrives(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(POST + b"connection: close\r\ncontent-length: 1600\r\n\r\n")
        # (Little at a time: a window in which the machine stands still has something in it all the same.)
        for _ in range(80):
            connection.sendall(b"x" * 20)
            time.sleep(0.02)  # the slow sender that this is about
        answer = rest(connection)
    assert answer.endswith(b"\r\n\r\n1600")


def test_a_client_is_not_blamed_for_an_application_that_reads_late(hasty: Server) -> None:
    size = 1 << 24
    with hasty.connect() as connection:
        connection.sendall(b"POST /lazy HTTP/1.1\r\nhost: x\r\nconnection: close\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n" % size + bytes(size))
        assert rest(connection).endswith(b"\r\n\r\n%d" % size)


def test_a_response_outlives_all_limits_with_half_a_request_behind_it_too(plain: Server) -> None:
    with plain.connect() as connection:
        begun = time.monotonic()
        connection.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nGET /li")
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
        assert b"ended" not in rest(connection), "it is not waited for the first answer"


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


@pytest.mark.parametrize("coding", [b"br", b"BR", b"compress", b"identity, br", b"gzip, br", b"anything"])
@pytest.mark.parametrize("path", [b"/upload", b"/livez", b"/nowhere"])
def test_a_body_in_an_unknown_coding_is_refused_before_any_of_it(plain: Server, coding: bytes, path: bytes) -> None:
    with plain.connect() as connection:
        connection.sendall(b"POST " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: ")
        connection.sendall(coding + b"\r\ncontent-length: 900\r\n\r\n")
        status, error = error_of(connection)
    assert (status, error["code"], error["param"]) == (415, "unsupported_media_type", "Content-Encoding")


@pytest.mark.parametrize("size", [100, 5_000_000])
def test_a_compressed_body_is_read_as_what_it_was(server: Server, size: int) -> None:
    body = gzip.compress(bytes(size))
    with server.connect() as connection:
        connection.sendall(POST + b"connection: close\r\ncontent-encoding: gzip\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n" % len(body) + body)
        assert rest(connection).endswith(b"\r\n\r\n%d" % size)


def test_a_bomb_is_a_413_and_holds_nobody(plain: Server) -> None:
    bomb = gzip.compress(gzip.compress(bytes(1 << 28)))
    assert len(bomb) < 10_000
    before = cpu_seconds(plain.pid)
    with plain.connect() as connection:
        connection.sendall(POST + b"connection: close\r\ncontent-encoding: gzip, gzip\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n" % len(bomb) + bomb)
        assert b"200 OK" in plain.ask()
        status, error = error_of(connection)
    assert cpu_seconds(plain.pid) - before < 1, "others wait while it computes"
    assert (status, error["code"]) == (413, "request_too_large")


def test_a_compressed_body_that_trickles_is_cut_off(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall(POST + b"content-encoding: gzip\r\ncontent-length: 100000\r\n\r\n")
        connection.sendall(b"\x1f\x8b\x08\x08" + bytes(6))  # then a file name without an end
        sender = trickle(connection, lambda: b"a")
        status, error = error_of(connection)
        connection.close()
    sender.join()
    assert (status, error["code"]) == (408, "request_timeout")


def test_a_large_body_in_one_piece_with_a_head_of_exactly_the_limit_passes(plain: Server) -> None:
    size = 200_000
    head = POST + b"connection: close\r\ncontent-length: %d\r\nx: " % size
    head += b"a" * (LIMITS["head_bytes"] - len(head) - 4) + b"\r\n\r\n"
    with plain.connect() as connection:
        connection.sendall(head + bytes(size))
        assert rest(connection).endswith(b"\r\n\r\n%d" % size)


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
    metrics = Server(plain.metrics_port, plain.metrics_port, plain.pid)
    with metrics.connect() as half_open, metrics.connect() as endless, metrics.connect() as reader:
        half_open.sendall(b"GET /metrics HTTP/1.1\r\nx: ")
        endless.sendall(b"GET /metrics HTTP/1.1\r\nx: " + b"a" * 20_000)
        assert error_of(endless)[0] == 431
        reader.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b'cloister_connections_refused_total{reason="head"}' in rest(reader)
        assert error_of(half_open)[0] == 408
