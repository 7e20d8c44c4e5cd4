"""One socket against its library's client: whatever is sent in whatever pieces is understood on the other side."""

import asyncio
import random
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.support.waiting import until
from tests.unit.common.doors.test_sockets import connected

Said = list[tuple[Opcode, bytes]]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says what it hears, and closes when it hears ``close``."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4000, "reason": "ä" * 100})
            return
        await send({**message, "type": "websocket.send"})


class Peer:
    """The library's client of a socket that echoes, with a network between that cuts what it carries by chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.protocol = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)
        self.heard: Said = []

    async def open(self) -> None:
        self.socket, self.transport = connected(echo)
        await until(lambda: self.transport.written, what="the handshake ends")
        self.transport.taken()

    def say(self, kind: Opcode, payload: bytes) -> Said:
        """Sends a message in fragments with pings between them; gives what comes back, in this order."""
        first = self.protocol.send_text if kind == Opcode.TEXT else self.protocol.send_binary
        cuts = sorted(self.chance.randrange(len(payload) + 1) for _ in range(self.chance.randrange(4)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        pongs: Said = []
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            first(part, last) if number == 0 else self.protocol.send_continuation(part, last)
            if not last and self.chance.random() < 0.5:
                pongs.append((Opcode.PONG, self.chance.randbytes(self.chance.randrange(126))))
                self.protocol.send_ping(pongs[-1][1])
        return [*pongs, (kind, payload)]

    async def carry(self, sent: bytes) -> None:
        """Brings ``sent`` to the socket, as long as that reads, and what it writes to the client."""
        while sent and not self.transport.closed:
            size = self.chance.choice([1, 2, 3, 7, 126, 5000, 300_000])
            if self.transport.reading:
                self.socket.data_received(sent[:size])
                sent = sent[size:]
            if not self.transport.reading or self.chance.random() < 0.1:
                await asyncio.sleep(0)
            self.hear()

    def hear(self) -> None:
        written = self.transport.taken()
        while written:
            size = self.chance.choice([1, 2, 7, 5000])
            self.protocol.receive_data(written[:size])
            written = written[size:]
        frames = [event for event in self.protocol.events_received() if isinstance(event, Frame)]
        self.heard += [(frame.opcode, bytes(frame.data)) for frame in frames if frame.opcode != Opcode.CLOSE]

    async def until_heard(self, expected: int) -> None:
        def enough() -> bool:
            self.hear()
            return len(self.heard) >= expected

        await until(enough, what="all that is to come back")

    async def until_closed(self) -> None:
        def closed() -> bool:
            self.hear()
            return self.protocol.close_rcvd is not None

        await until(closed, what="the close frame")

    @property
    def sent(self) -> bytes:
        return b"".join(self.protocol.data_to_send())


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_said_comes_back_and_the_end_is_understood_on_both_sides(seed: int) -> None:
    peer = Peer(random.Random(seed))
    await peer.open()
    expected: Said = []
    for _ in range(30):
        text = peer.chance.choice(["", "a", "ä€😀"]) * peer.chance.choice([1, 40, 63, 5000])
        kind = peer.chance.choice([Opcode.TEXT, Opcode.BINARY])
        expected += peer.say(kind, text.encode() if kind == Opcode.TEXT else peer.chance.randbytes(len(text)))
    await peer.carry(peer.sent)
    await peer.until_heard(len(expected))
    # Pongs overtake what the application is still at, as they may; each kind is in order.
    for kinds in ({Opcode.PONG}, {Opcode.TEXT, Opcode.BINARY}):
        assert [one for one in peer.heard if one[0] in kinds] == [one for one in expected if one[0] in kinds]

    if seed % 2:
        peer.protocol.send_close(4001, "enough")
        await peer.carry(peer.sent)
        peer.hear()
    else:
        peer.say(Opcode.TEXT, b"close")
        await peer.carry(peer.sent)
        await peer.until_closed()
        await peer.carry(peer.sent)  # the client's own, by its library
    assert peer.transport.closed
    assert peer.protocol.close_rcvd is not None
    assert peer.protocol.close_sent is not None
    assert peer.protocol.close_rcvd.code == peer.protocol.close_sent.code == (4001 if seed % 2 else 4000)
    peer.socket.connection_lost(None)


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_is_wrong_ends_the_socket_with_a_reason_and_nothing_else(seed: int) -> None:
    peer = Peer(random.Random(seed))
    await peer.open()
    for _ in range(4):
        peer.say(Opcode.TEXT, ("ä" * peer.chance.choice([1, 100, 5000])).encode())
    sent = bytearray(peer.sent)
    for _ in range(peer.chance.choice([1, 3, 50])):
        sent[peer.chance.randrange(min(len(sent), peer.chance.choice([8, 500, 1 << 30])))] = peer.chance.randrange(256)
    await peer.carry(bytes(sent))
    for _ in range(5):
        await asyncio.sleep(0)
    peer.hear()
    # What was wrong may look like what is right, or like a frame that goes on; what is written is always right.
    assert not isinstance(peer.protocol.parser_exc, ProtocolError)
    if peer.protocol.close_rcvd is not None:
        assert peer.protocol.close_rcvd.code in {1002, 1007, 1008, 1009} or peer.transport.closed
    peer.socket.connection_lost(None)
