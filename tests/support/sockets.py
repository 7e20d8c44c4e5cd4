"""A plain WebSocket at a gateway, for tests of what the SDK cannot say."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.gateway import GatewayFixture

__all__ = ["ask", "numbers", "opened", "receive", "send", "text_of", "turn", "until_text"]

_SECONDS = 30


@contextmanager
def opened(url: str, gateway: GatewayFixture, **options: Any) -> Iterator[ClientConnection]:
    """A plain WebSocket at ``url``."""
    address = url.replace("http", "ws", 1) + "/v1/responses"
    with connect(address, additional_headers=gateway.headers(), proxy=None, **options) as socket:
        yield socket


def send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    """Sends a client event."""
    socket.send(json.dumps({"type": kind, **fields}))


def ask(socket: ClientConnection, text: str = "hi", **fields: Any) -> None:
    """Asks for a response."""
    send(socket, "response.create", model="fake", input=text, **fields)


def receive(socket: ClientConnection) -> dict[str, Any]:
    """The next event."""
    event: dict[str, Any] = json.loads(socket.recv(_SECONDS))
    return event


def turn(socket: ClientConnection) -> list[dict[str, Any]]:
    """The events up to the end of a response."""
    events = [receive(socket)]
    while events[-1]["type"] not in {"response.completed", "response.incomplete", "response.failed"}:
        events.append(receive(socket))
    return events


def text_of(events: list[dict[str, Any]]) -> str:
    """The text that a reader of the events has seen."""
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def until_text(socket: ClientConnection, text: str) -> list[dict[str, Any]]:
    """The events until ``text`` has been read."""
    events: list[dict[str, Any]] = []
    while text_of(events) != text:
        events.append(receive(socket))
    return events


def numbers(events: list[dict[str, Any]]) -> list[int]:
    """The sequence numbers."""
    return [event["sequence_number"] for event in events]
