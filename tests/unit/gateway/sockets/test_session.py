"""What one socket keeps for its life."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import orjson
from cloister_common.vault import DataKey
from cloister_gateway.admission import Admission
from cloister_gateway.identity.principal import Credential, Principal
from cloister_gateway.settings import AdmissionSettings
from cloister_gateway.sockets.session import Session
from cloister_gateway.sockets.waiting import WaitingBytes
from cloister_gateway.storage import KeyedObject
from cloister_gateway.storage.layout import RESPONSE

CALLER = Principal("proj_a", "svc_acct_a", Credential("api_key", "key_a"), frozenset({"api"}))
TURNS = 1500


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

    async def events(self, keyed: KeyedObject, *, after: int) -> AsyncGenerator[list[bytes], None]:
        self.ended.set()
        return
        yield []


class Socket:
    """A client that asks for one unstored response after the other, and leaves."""

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


async def test_a_socket_remembers_the_latest_unstored_responses_and_not_all_for_its_life() -> None:
    responses = Responses()
    session = Session(
        cast("Any", Socket(responses)),
        CALLER,
        responses=cast("Any", responses),
        conversations=cast("Any", None),
        bus=cast("Any", None),
        admission=Admission(AdmissionSettings(), ping=cast("Any", None)),
        waiting=WaitingBytes(1_000_000),
        most_values=1000,
        send_seconds=1,
    )
    assert await session.run() is None
    assert responses.made == TURNS
    assert len(responses.known) == 1024
    assert responses.known[-1] == f"resp_{TURNS - 1}"
