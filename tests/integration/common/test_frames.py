"""Floods of frames on a WebSocket: it is closed with the reason, and others are not held up."""

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.doors import Server, error_of, rest, send, serving
from tests.support.tiny_service import FRAMES_WRITTEN


def frame(opcode: int, payload: bytes, *, last: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 127]) + size.to_bytes(8, "big")
    return bytes([0x80 * last | opcode]) + length + bytes(4) + payload


HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: " + base64.b64encode(bytes(16)) + b"\r\n"
)


def open_socket(server: Server, more: bytes = b"", path: bytes = b"/echo") -> socket.socket:
    connection = server.connect()
    connection.sendall(HANDSHAKE.replace(b"/echo", path) + more + b"\r\n")
    return connection


@contextlib.contextmanager
def opened(server: Server, path: bytes = b"/echo") -> Iterator[socket.socket]:
    """A WebSocket after its handshake."""
    with open_socket(server, path=path) as connection:
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


def test_a_frame_in_one_piece_with_the_request_is_answered(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(HANDSHAKE + b"\r\n" + frame(TEXT, b"hello")[:-2])
        connection.sendall(b"lo")
        answer = b""
        while not answer.endswith(b"\x81\x015"):
            piece = connection.recv(65536)
            assert piece, answer
            answer += piece
    assert answer.startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("header", [b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n"])
def test_a_handshake_with_a_body_is_a_400_before_the_body_is_waited_for(server: Server, header: bytes) -> None:
    with open_socket(server, header) as connection:
        status, error = error_of(connection)
    assert (status, error["code"]) == (400, "invalid_http")
    assert "body" in error["message"]


def test_a_handshake_behind_a_request_that_is_not_answered_yet_is_cut_off(plain: Server) -> None:
    with plain.connect() as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n" + HANDSHAKE + b"\r\n")
        assert b"101" not in rest(connection)


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        pytest.param(b"/echo", b"http://x", "path", id="no path"),
        pytest.param(b"/echo", b"http://x:99999/echo", "path", id="no URL"),
        pytest.param(b"GET", b"POST", "GET", id="no GET"),
        pytest.param(b"version: 13", b"version: 14", "sec-websocket-version: 13", id="another version"),
        pytest.param(b"key: AAAA", b"key: AAA", "sec-websocket-key", id="no key"),
    ],
)
def test_what_is_no_handshake_is_a_400_that_says_why(plain: Server, right: bytes, wrong: bytes, word: str) -> None:
    with plain.connect() as connection:
        connection.sendall(HANDSHAKE.replace(right, wrong) + b"\r\n")
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nsec-websocket-version: 13" in head
    assert word in json.loads(body)["error"]["message"]


def test_a_handshake_whose_header_no_websocket_takes_is_a_431(tmp_path: Path) -> None:
    with (
        serving(tmp_path, head_bytes=32768) as server,
        open_socket(server, b"x: " + b"a" * 9000 + b"\r\n") as connection,
    ):
        assert error_of(connection)[0] == 431


def test_joined_frames_wait_for_a_slow_reader_and_come_in_order(server: Server) -> None:
    with opened(server, b"/frames") as slow, opened(server, b"/frames") as quick:
        for connection in (quick, slow):
            assert numbers_until_close(connection) == list(range(FRAMES_WRITTEN))


def numbers_until_close(connection: socket.socket) -> list[int]:
    numbers = []
    with connection.makefile("rb") as stream:
        while (head := stream.read(2))[0] != 0x88:
            size = int.from_bytes(stream.read(2)) if head[1] == 126 else head[1]
            payload = stream.read(size)
            if head[0] == 0x80 | TEXT:
                numbers.append(int(payload))
    return numbers
