"""Sockets that misbehave, are cut, read slowly or lose their key: only they feel it."""

import asyncio
import json
import os
import random
import socket as sockets
import struct
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from prometheus_client import REGISTRY
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.gateway.conftest import Installation, sdk
from tests.support.gateway import GatewayFixture
from tests.support.sockets import ask, numbers, opened, receive, send, turn, until_text
from tests.support.waiting import wait_until

CUTS = 1000
READERS = 8

GARBAGE: list[tuple[str | bytes, str | None]] = [
    (b"\x00\xff\xfe\x01", None),
    (b"", None),
    ("", None),
    ("not json", None),
    ("[" * 5_000, None),
    ("[]", None),
    ("null", None),
    ('"text"', None),
    ("{}", "type"),
    ('{"type": 5}', "type"),
    ('{"type": "session.update"}', "type"),
    ('{"type": ["response.create"]}', "type"),
    (json.dumps({"type": "response.create"}), "model"),
    (json.dumps({"type": "response.create", "model": "fake", "input": "x" * 5_000_000}), "input"),
    (json.dumps({"type": "response.create", "model": "fake", "input": {"a": 1}}), "input"),
    (json.dumps({"type": "response.create", "model": "fake", "input": "x", "background": True}), "background"),
    (json.dumps({"type": "response.create", "model": "fake", "input": "x", "generate": False}), "generate"),
    (json.dumps({"type": "response.create", "model": "fake", "input": "x", "tools": [{"type": "a"}]}), "tools[0].type"),
    (json.dumps({"type": "response.create", "model": "none", "input": "x"}), "model"),
    (json.dumps({"type": "response.subscribe"}), "response_id"),
    (json.dumps({"type": "response.subscribe", "response_id": "resp_unknown"}), "response_id"),
    (json.dumps({"type": "response.subscribe", "response_id": "r", "starting_after": -1}), "starting_after"),
    (json.dumps({"type": "conversation.subscribe", "conversation_id": "conv_unknown"}), "conversation_id"),
    (json.dumps({"type": "response.cancel", "response_id": "resp_unknown"}), "response_id"),
]  # fmt: skip


def test_garbage_is_answered_with_an_error_and_the_socket_lives(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    with opened(gateway_url, gateway) as socket:
        for frame, param in GARBAGE:
            socket.send(frame)
            event = receive(socket)
            assert event["type"] == "error", frame[:80]
            assert 400 <= event["status"] < 500
            assert (set(event["error"]), event["error"]["param"]) == ({"message", "type", "param", "code"}, param)
        assert llm.chats() == []
        ask(socket)
        assert turn(socket)[-1]["type"] == "response.completed"


def test_errors_name_the_lane_they_belong_to(gateway: GatewayFixture, gateway_url: str) -> None:
    with opened(gateway_url, gateway) as socket:
        ask(socket, stream_id="a", moderation={"model": "m"})
        error = receive(socket)
        assert (error["stream_id"], error["error"]["code"]) == ("a", "unsupported_parameter")


def test_too_many_waiting_requests_are_refused_and_the_others_served(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    llm.hold_after = 1
    with opened(gateway_url, gateway) as socket:
        # One is at work and sixteen wait.
        for _ in range(20):
            ask(socket)
        refused: list[dict[str, Any]] = []
        while len(refused) < 3:
            event = receive(socket)
            refused += [event] if event["type"] == "error" else []
        assert [error["status"] for error in refused] == [429] * 3
        llm.release()
        assert [turn(socket)[-1]["type"] for _ in range(17)] == ["response.completed"] * 17


def test_a_socket_follows_a_bounded_number_of_conversations(
    gateway: GatewayFixture, gateway_url: str, client: Any
) -> None:
    conversation = client.conversations.create()
    with opened(gateway_url, gateway) as socket:
        for _ in range(65):
            send(socket, "conversation.subscribe", conversation_id=conversation.id)
        told = [receive(socket) for _ in range(65)]
        assert sorted(event["type"] for event in told) == ["conversation.subscribed"] * 64 + ["error"]
        ask(socket, conversation=conversation.id)
        assert turn(socket)[-1]["type"] == "response.completed"


def test_what_a_socket_asks_without_waiting_is_bounded(
    gateway: GatewayFixture, gateway_url: str, client: Any, llm: FakeLlm
) -> None:
    llm.hold_after = 0
    created = client.responses.create(model="fake", input="hi", background=True)
    with opened(gateway_url, gateway) as socket:
        for number in range(300):
            send(socket, "response.subscribe", response_id=created.id, stream_id=str(number))
        answers: dict[str, Any] = {}
        while len(answers) < 300:
            event = receive(socket)
            answers.setdefault(event["stream_id"], event.get("status"))
        assert sorted(map(str, answers.values())) == ["429"] * 44 + ["None"] * 256
        llm.release()
        wait_until(lambda: client.responses.retrieve(created.id).status == "completed")
        while not (event := receive(socket))["type"].endswith(".completed") or event["stream_id"] != "255":
            pass
        ask(socket)
        assert turn(socket)[-1]["type"] == "response.completed"


async def test_a_thousand_cuts_lose_and_repeat_nothing(
    gateway: GatewayFixture, installation: Installation, llm: FakeLlm
) -> None:
    llm.answer = [f" {number}" for number in range(1600)]
    llm.delay_seconds = 0.001
    chance = random.Random(11)
    cuts = 0

    async def read(response_id: str) -> list[dict[str, Any]]:
        nonlocal cuts
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != "response.completed":
            address = chance.choice(installation.urls).replace("http", "ws", 1) + "/v1/responses"
            async with connect_async(address, additional_headers=gateway.headers(), proxy=None) as socket:
                resume = {"starting_after": events[-1]["sequence_number"]} if events else {}
                await socket.send(json.dumps({"type": "response.subscribe", "response_id": response_id, **resume}))
                # Some connections are cut before they brought anything, others in the middle of a burst.
                for _ in range(chance.randrange(4)):
                    events.append(json.loads(await socket.recv()))
                    if events[-1]["type"] == "response.completed":
                        break
                socket.transport.abort()
                cuts += 1
        return events

    async with (
        openai.AsyncOpenAI(base_url=f"{installation.urls[0]}/v1", api_key=gateway.project_key) as client,
        asyncio.timeout(120),
    ):
        # (How many events a run has depends on how fast its tokens come: those between two writes are one.)
        while cuts < CUTS:
            created = await client.responses.create(model="fake", input="hi", background=True, max_output_tokens=2000)
            stories = await asyncio.gather(*(read(created.id) for _ in range(READERS)))
            assert all(story == stories[0] for story in stories)
            assert numbers(stories[0]) == list(range(len(stories[0])))
            said = "".join(event["delta"] for event in stories[0] if event["type"] == "response.output_text.delta")
            assert said == "".join(llm.answer)


@pytest.fixture
def impatient(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    """An installation that waits for a slow socket for some seconds, and lets a tenant have three."""
    return make_gateway(responses={"send_seconds": 5, "sockets_per_tenant": 3})


@pytest.fixture
def impatient_url(impatient: GatewayFixture) -> Iterator[str]:
    with impatient.serve() as url:
        yield url


class StalledReader:
    """A WebSocket client that does not read until it is told to, with a small receive buffer."""

    def __init__(self, url: str, key: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = sockets.socket()
        self._socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 8192)
        self._socket.settimeout(60)
        self._socket.connect((host, int(port)))
        self._socket.sendall(
            f"GET /v1/responses HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            f"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
            f"authorization: Bearer {key}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101")

    def send(self, event: dict[str, Any]) -> None:
        payload, mask = json.dumps(event).encode(), os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self._socket.sendall(struct.pack(">BBH", 0x81, 0x80 | 126, len(payload)) + mask + masked)

    def close_code(self) -> int:
        """Reads everything there is; gives the code of the close frame at the end."""
        with self._socket.makefile("rb") as stream:
            while True:
                first, length = struct.unpack(">BB", stream.read(2))
                if length >= 126:
                    (length,) = struct.unpack(*((">H", stream.read(2)) if length == 126 else (">Q", stream.read(8))))
                payload = stream.read(length)
                if first & 0x0F == 8:
                    self._socket.close()
                    return int(struct.unpack(">H", payload[:2])[0])


def test_a_slow_reader_is_closed_with_1013_and_slows_nobody(
    impatient: GatewayFixture, impatient_url: str, llm: FakeLlm
) -> None:
    # Far more than the buffers of kernel and server between them take.
    llm.answer = ["x" * 20_000 for _ in range(1000)]
    before = closed_for_slowness()
    stalled = StalledReader(impatient_url, impatient.project_key)
    client = sdk(impatient_url, impatient)
    created = client.responses.create(model="fake", input="hi", background=True)
    stalled.send({"type": "response.subscribe", "response_id": created.id})
    with opened(impatient_url, impatient, max_size=None) as quick:
        send(quick, "response.subscribe", response_id=created.id)
        events = turn(quick)
    assert numbers(events) == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    wait_until(lambda: closed_for_slowness() > before, what="the end of the gateway's patience")
    assert stalled.close_code() == 1013


def closed_for_slowness() -> float:
    return REGISTRY.get_sample_value("cloister_sockets_closed_total", {"code": "1013"}) or 0


def test_sockets_over_the_tenants_limit_are_refused_until_one_closes(
    impatient: GatewayFixture, impatient_url: str, llm: FakeLlm
) -> None:
    with opened(impatient_url, impatient), opened(impatient_url, impatient):
        with opened(impatient_url, impatient):
            with pytest.raises(InvalidStatus) as refused, opened(impatient_url, impatient):
                pass
            assert refused.value.response.status_code == 429
        wait_until(lambda: can_open(impatient_url, impatient), what="a free place")


def can_open(url: str, gateway: GatewayFixture) -> bool:
    try:
        with opened(url, gateway):
            return True
    except InvalidStatus:
        return False


def test_revoking_a_key_closes_its_sockets_everywhere_and_no_others(
    gateway: GatewayFixture, gateway_url: str, other_url: str, llm: FakeLlm
) -> None:
    with openai.OpenAI(
        base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key, max_retries=0
    ) as admin:
        projects = admin.admin.organization.projects
        project = projects.create(name="p")
        account = projects.service_accounts.create(project.id, name="bot")
        assert account.api_key is not None
        short = projects.service_accounts.api_keys.create(account.id, project_id=project.id, expires_in_seconds=6)
        doomed = GatewayFixture(gateway.settings, account.api_key.value, "")
        expiring = GatewayFixture(gateway.settings, short.value, "")
        llm.hold_after = 1
        with (
            opened(gateway_url, doomed) as here,
            opened(other_url, doomed) as there,
            opened(other_url, expiring) as passing,
            opened(other_url, gateway) as bystander,
        ):
            ask(there)
            begun = until_text(there, "Hello")
            # Who reads the same over HTTP is cut off too, by revocation and by expiry.
            running = begun[0]["response"]["id"]
            readers = [
                iter(sdk(gateway_url, one).responses.retrieve(running, stream=True)) for one in (doomed, expiring)
            ]
            for reader in readers:
                assert next(reader).type == "response.created"
            projects.api_keys.delete(account.api_key.id, project_id=project.id)
            for socket in (here, there, passing):
                with pytest.raises(ConnectionClosed) as closed:
                    socket.recv(30)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4401
            for reader in readers:
                with pytest.raises(openai.APIConnectionError):
                    list(reader)
            llm.release()
            ask(bystander)
            assert turn(bystander)[-1]["type"] == "response.completed"
