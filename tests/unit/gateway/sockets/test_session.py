"""What one socket keeps for its life."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import orjson
import pytest
from cloister_common.errors import TooManyRequests
from cloister_common.vault import DataKey
from cloister_gateway.admission import Admission
from cloister_gateway.identity.principal import Credential, Principal
from cloister_gateway.settings import AdmissionSettings
from cloister_gateway.sockets.session import Session, SessionParts
from cloister_gateway.sockets.waiting import WaitingBytes
from cloister_gateway.storage import KeyedObject
from cloister_gateway.storage.layout import RESPONSE
from cloister_gateway.streams.fanout import Follower

from tests.support.waiting import until

CALLER = Principal("proj_a", "svc_acct_a", Credential("api_key", "key_a"), frozenset({"api"}))
TURNS = 1500


def parts_of(responses: Any, waiting: WaitingBytes) -> SessionParts:
    return SessionParts(
        responses=responses,
        conversations=cast("Any", None),
        bus=cast("Any", None),
        admission=Admission(AdmissionSettings(), ping=cast("Any", None)),
        waiting=waiting,
        most_values=1000,
        send_seconds=1,
    )


class Responses:
    """Stands for the service: every turn ends at once."""

    def __init__(self) -> None:
        self.made = 0
        self.known: list[str] = []
        self.ended = asyncio.Event()

    async def create(self, caller: Principal, event: Any, *, own_unstored: Sequence[str]) -> Any:
        self.made += 1
        self.known = list(own_unstored)
        keyed = KeyedObject(RESPONSE, f"resp_{self.made}", DataKey(bytes(32), tenant="proj_a"))
        return type("Created", (), {"keyed": keyed})

    async def hand_on(self, keyed: KeyedObject, follower: Follower) -> None:
        self.ended.set()


class Socket:
    """A client that asks for one unstored response after the other, and leaves. It is sent nothing."""

    on_room = None
    gone = False

    def __init__(self, responses: Responses) -> None:
        self.responses = responses
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        if self.asked:
            await self.responses.ended.wait()
            self.responses.ended.clear()
        if self.asked == TURNS:
            return {"type": "websocket.disconnect", "code": 1000}
        self.asked += 1
        turn = {"type": "response.create", "model": "m", "input": "hi", "store": False}
        return {"type": "websocket.receive", "text": orjson.dumps(turn).decode()}


class Full(Responses):
    """Stands for the service: what is asked waits until it is let in."""

    def __init__(self) -> None:
        super().__init__()
        self.let_in = asyncio.Event()

    async def create(self, caller: Principal, event: Any, *, own_unstored: Sequence[str]) -> Any:
        await self.let_in.wait()
        return await super().create(caller, event, own_unstored=own_unstored)


class Asker(Socket):
    """A client that asks for two responses side by side, and then says nothing until it is told to leave."""

    def __init__(self, responses: Responses) -> None:
        super().__init__(responses)
        self.leave = asyncio.Event()
        self.said = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self.asked > 2:
            await self.leave.wait()
            return {"type": "websocket.disconnect", "code": 1000}
        text = orjson.dumps({"type": "response.create", "model": "m", "input": "hi", "stream_id": str(self.asked)})
        self.said += len(text)
        return {"type": "websocket.receive", "text": text.decode()}


@pytest.mark.parametrize("let_in", [True, False])
async def test_turns_count_as_waiting_until_they_are_stored_or_their_socket_ends(let_in: bool) -> None:
    responses = Full()
    socket = Asker(responses)
    waiting = WaitingBytes(1_000_000)
    session = Session(socket.receive, cast("Any", socket), CALLER, parts_of(responses, waiting))
    running = asyncio.create_task(session.run())
    await until(lambda: socket.asked == 3, what="both turns have come")
    assert waiting.of("proj_a") == socket.said
    if let_in:
        responses.let_in.set()
        await until(lambda: waiting.of("proj_a") == 0, what="both turns are stored")
    socket.leave.set()
    await running
    assert waiting.of("proj_a") == 0


def test_a_turn_alone_waits_whatever_its_size_and_one_beside_another_only_where_it_fits() -> None:
    waiting = WaitingBytes(10)
    waiting.add("proj_a", 50)
    with pytest.raises(TooManyRequests):
        waiting.add("proj_a", 1)
    waiting.remove("proj_a", 50)
    waiting.add("proj_a", 9)
    waiting.add("proj_a", 1)


async def test_a_socket_remembers_the_latest_unstored_responses_and_not_all_for_its_life() -> None:
    responses = Responses()
    socket = Socket(responses)
    parts = parts_of(responses, WaitingBytes(1_000_000))
    session = Session(socket.receive, cast("Any", socket), CALLER, parts)
    assert await session.run() is None
    assert responses.made == TURNS
    assert len(responses.known) == 1024
    assert responses.known[-1] == f"resp_{TURNS - 1}"
