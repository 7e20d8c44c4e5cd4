"""Frames of a WebSocket: what a client may send in any pieces, what fails it, and what it reads of ours."""

import random

import pytest
from cloister_common.doors.frames import BINARY, PING, TEXT, FrameError, FrameReader, frame, read_close, text_frames
from cloister_common.settings import ConnectionLimits
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

LIMITS = ConnectionLimits(frames_per_second=100_000)
MASK = bytes(4)


def reader(max_size: int = 1 << 20) -> FrameReader:
    return FrameReader(LIMITS, max_size=max_size)


def client() -> ClientProtocol:
    return ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)


def received(protocol: ClientProtocol, data: bytes) -> list[tuple[Opcode, bytes]]:
    """The whole messages and control frames that the library reads in what a server sent."""
    protocol.receive_data(data)
    frames = [event for event in protocol.events_received() if isinstance(event, Frame) and event.fin]
    return [(frame.opcode, bytes(frame.data)) for frame in frames]


@pytest.mark.parametrize("seed", range(5))
def test_messages_are_the_same_in_whatever_pieces_they_come(seed: int) -> None:
    chance = random.Random(seed)
    protocol = client()
    expected: list[tuple[int, bytes]] = []
    for _ in range(60):
        payload = "ä".encode() * chance.choice([0, 1, 60, 63, 200, 32_768, 40_000])
        kind = chance.choice([TEXT, BINARY])
        send = protocol.send_text if kind == TEXT else protocol.send_binary
        cuts = sorted(chance.randrange(len(payload) + 1) for _ in range(chance.randrange(3)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for number, part in enumerate(parts):
            fin = number == len(parts) - 1
            send(part, fin) if number == 0 else protocol.send_continuation(part, fin)
            protocol.send_ping(b"p")
            expected += ([(kind, payload)] if fin else []) + [(PING, b"p")]
    sent, read = b"".join(protocol.data_to_send()), reader()
    found: list[tuple[int, bytes]] = []
    while sent:
        size = chance.choice([1, 2, 7, 1000, 300_000])
        found += list(read.feed(sent[:size]))
        sent = sent[size:]
    # A ping between a message's last fragment and the next message comes after it, as it was sent.
    assert found == expected


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_joined_frames_are_separate_messages_in_order(size: int) -> None:
    texts = [b"a" * size, b"b", b"c" * size]
    assert received(client(), text_frames(texts)) == [(Opcode.TEXT, text) for text in texts]


WRONG = {
    "a reserved bit": (bytes([0xC1, 0x80]) + MASK, 1002),
    "no mask": (bytes([0x81, 0x00]), 1002),
    "an unknown opcode": (bytes([0x83, 0x80]) + MASK, 1002),
    "a long ping": (bytes([0x89, 0xFE, 0x00, 0x7E]), 1002),
    "a ping in pieces": (bytes([0x09, 0x80]) + MASK, 1002),
    "a continuation of nothing": (bytes([0x80, 0x80]) + MASK, 1002),
    "a message in a message": ((bytes([0x01, 0x80]) + MASK) * 2, 1002),
    "a long message": (bytes([0x81, 0xFF]) + (2_000_000).to_bytes(8), 1009),
    "the longest message there can be": (bytes([0x81, 0xFF]) + b"\xff" * 8, 1009),
    "long fragments": ((bytes([0x01, 0xFF]) + (1 << 19).to_bytes(8) + MASK + bytes(1 << 19))
                       + (bytes([0x00, 0xFF]) + ((1 << 19) + 1).to_bytes(8)), 1009),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_no_client_may_send_fails_before_its_payload_is_waited_for(case: str) -> None:
    data, code = WRONG[case]
    with pytest.raises(FrameError) as failed:
        list(reader().feed(data))
    assert failed.value.code == code


def test_what_came_before_a_mistake_is_read() -> None:
    sent = reader().feed(bytes([0x81, 0x81]) + MASK + b"a" + bytes([0x83, 0x80]) + MASK)
    assert next(sent) == (TEXT, b"a")
    with pytest.raises(FrameError):
        next(sent)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", 1005), ((1000).to_bytes(2), 1000), ((4401).to_bytes(2) + b"why", 4401),
        (b"\x03", None), ((999).to_bytes(2), None), ((1005).to_bytes(2), None), ((1006).to_bytes(2), None),
        ((1015).to_bytes(2), None), ((2000).to_bytes(2), None), ((5000).to_bytes(2), None),
        ((1000).to_bytes(2) + b"\xff", None),
    ],
)  # fmt: skip
def test_close_frames_say_a_code_or_nothing(payload: bytes, expected: int | None) -> None:
    if expected is None:
        with pytest.raises(FrameError):
            read_close(payload)
    else:
        assert read_close(payload)[0] == expected


def test_a_control_frame_is_written_as_its_library_reads_it() -> None:
    assert received(client(), frame(PING, b"x" * 125)) == [(Opcode.PING, b"x" * 125)]
