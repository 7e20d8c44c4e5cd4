"""Clients of a history: they ask, read, resume and leave, on either gateway, by HTTP, SSE and WebSocket."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.e2e.histories.records import ENDS, Attempt, Event, History, Items, Snapshot, Stream, Turn
from tests.e2e.histories.site import Site

__all__ = ["Client", "read_items", "read_response", "read_stream"]

_SECONDS = 12.0
"""How long a client waits for a turn, or for a stream to end. Longer than a gateway stands still."""
_NOT_THERE = (httpx.ConnectError, httpx.ConnectTimeout)
_BROKEN = (httpx.TransportError, OSError, TimeoutError, ConnectionClosed, InvalidHandshake, EOFError)
_LIST = {"order": "asc", "limit": "100"}


class Client:
    """One of several clients of a history.

    Args:
        site: Where the gateways are.
        http: Connections.
        history: What it notes into.
        foreign: A history of another tenant, of which it must see nothing.
        name: Distinct within the history.
        choices: Decides all that it does.
    """

    def __init__(
        self, site: Site, http: httpx.AsyncClient, history: History, foreign: History, name: str, choices: random.Random
    ) -> None:
        self._site = site
        self._http = http
        self._history = history
        self._foreign = foreign
        self._name = name
        self._choices = choices
        self._asked = 0
        self._previous = ""
        self._until = 0.0

    async def run(self, until: float) -> None:
        """Does one thing after another until ``until``, in monotonic seconds."""
        self._until = until
        things = {self._ask: 5, self._read: 3, self._resume: 4, self._look: 2, self._cancel: 0.4, self._pry: 0.3}
        while time.monotonic() < until:
            (thing,) = self._choices.choices(list(things), list(things.values()))
            await thing()
            await asyncio.sleep(self._choices.uniform(0, 0.15))

    async def _ask(self) -> None:
        choices = self._choices
        self._asked += 1
        text = f"{self._history.name}.{self._name}.{self._asked}"
        alone = choices.random() < 0.2
        turn = Turn(
            text,
            key=f"key-{text}" if choices.random() < 0.6 else None,
            conversation="" if alone else self._history.conversation,
            previous=self._previous if alone and choices.random() < 0.8 else "",
        )
        body: dict[str, Any] = {"model": "fake", "input": text}
        if turn.conversation:
            body["conversation"] = turn.conversation
        if turn.previous:
            body["previous_response_id"] = turn.previous
        if choices.random() < 0.2:
            body["background"] = True
        self._history.turns.append(turn)
        if turn.key is None:
            await self._attempt(turn, body)
        else:
            for _ in range(4):
                both = 2 if choices.random() < 0.3 else 1
                await asyncio.gather(*(self._attempt(turn, body) for _ in range(both)))
                if (turn.response_ids and choices.random() < 0.7) or time.monotonic() > self._until:
                    break
                await asyncio.sleep(choices.uniform(0, 0.5))
        if alone and turn.response_ids:
            self._previous = next(iter(turn.response_ids))

    async def _attempt(self, turn: Turn, body: Event) -> None:
        gateway = self._choices.randrange(len(self._site.gateways))
        by = self._choices.choice(("http", "sse") if "background" in body else ("http", "sse", "socket"))
        patience = self._choices.choice((None, None, None, 0, 1, 5))
        attempt = Attempt(f"{by} at gateway {gateway}", time.monotonic())
        turn.attempts.append(attempt)
        try:
            async with asyncio.timeout(_SECONDS):
                if by == "http":
                    await self._attempt_whole(turn, body, gateway, attempt)
                else:
                    await self._attempt_stream(turn, body, gateway, attempt, by, patience)
        except _NOT_THERE:
            attempt.outcome, attempt.said = "refused", "the gateway is not there"
        except _BROKEN as error:
            attempt.said = repr(error)

    async def _attempt_whole(self, turn: Turn, body: Event, gateway: int, attempt: Attempt) -> None:
        headers = {**self._headers, **({"idempotency-key": turn.key} if turn.key else {})}
        url = f"{self._site.gateways[gateway].url}/v1/responses"
        answer = await self._http.post(url, json=body, headers=headers)
        if answer.is_success:
            response = answer.json()
            attempt.heard(response["id"])
            self._note_snapshot(attempt.how, attempt.begun, response)
        else:
            self._refusal(attempt, answer.status_code, answer.text)

    async def _attempt_stream(
        self, turn: Turn, body: Event, gateway: int, attempt: Attempt, by: str, patience: int | None
    ) -> None:
        stream = Stream(-1, attempt.how)
        url = f"{self._site.gateways[gateway].url}/v1/responses"
        if by == "sse":
            headers = {**self._headers, **({"idempotency-key": turn.key} if turn.key else {})}
            events = _sse(self._http, "POST", url, headers, stream, json={**body, "stream": True})
        else:
            asked = {**body, "type": "response.create", **({"client_request_id": turn.key} if turn.key else {})}
            events = _socket(url, self._headers, asked, stream)
        async with contextlib.aclosing(events):
            async for event in events:
                if event["type"] == "refused":
                    self._refusal(attempt, event["status"], event["text"])
                    return
                if not attempt.response_id and "response" in event:
                    attempt.heard(event["response"]["id"])
                    self._history.streams.setdefault(attempt.response_id, []).append(stream)
                stream.events.append(event)
                if patience is not None and len(stream.events) > patience:
                    return
        if stream.error is not None and not attempt.response_id:
            self._refusal(attempt, int(stream.error.get("status") or 500), json.dumps(stream.error))

    def _refusal(self, attempt: Attempt, status: int, text: str) -> None:
        attempt.said = f"{status} {text}"
        if status < 500:
            attempt.outcome = "refused"

    async def _read(self) -> None:
        limit = self._choices.choice((None, None, 1, 3))
        await self._carefully(read_items(self._site, self._http, self._history, self._gateway(), limit))

    async def _look(self) -> None:
        if self._history.known:
            response_id = self._choices.choice(self._history.known)
            await self._carefully(read_response(self._site, self._http, self._history, self._gateway(), response_id))

    async def _resume(self) -> None:
        if not self._history.known:
            return
        response_id = self._choices.choice(self._history.known[-4:])
        after = self._choices.randrange(-1, 6)
        by = self._choices.choice(("sse", "socket"))
        patience = self._choices.choice((None, None, None, 1, 5))
        await self._carefully(
            read_stream(
                self._site, self._http, self._history, self._gateway(), response_id, after, by, patience=patience
            )
        )

    async def _cancel(self) -> None:
        if self._history.known:
            url = f"{self._site.gateways[self._gateway()].url}/v1/responses/{self._history.known[-1]}/cancel"
            await self._carefully(self._http.post(url, headers=self._headers))

    async def _pry(self) -> None:
        """Another tenant's conversation and responses are not there."""
        paths = [f"conversations/{self._foreign.conversation}/items"]
        paths += [f"responses/{each}" for each in self._foreign.known[-1:]]
        url = f"{self._site.gateways[self._gateway()].url}/v1/{self._choices.choice(paths)}"
        with contextlib.suppress(*_BROKEN):
            answer = await self._http.get(url, headers=self._headers)
            if answer.status_code < 500 and answer.status_code != 404:
                self._history.wrong.append(f"{url} of another tenant is {answer.status_code}: {answer.text}")

    async def _carefully(self, work: Any) -> None:
        with contextlib.suppress(*_BROKEN):
            async with asyncio.timeout(_SECONDS):
                await work

    def _gateway(self) -> int:
        return self._choices.randrange(len(self._site.gateways))

    def _note_snapshot(self, how: str, begun: float, response: Event) -> None:
        self._history.snapshots.setdefault(response["id"], []).append(Snapshot(how, begun, response))

    @property
    def _headers(self) -> dict[str, str]:
        return _headers(self._history)


async def read_items(
    site: Site, http: httpx.AsyncClient, history: History, gateway: int, limit: int | None = None
) -> list[Event] | None:
    """Reads the conversation, all of it or its last ``limit`` items, and notes it. None if the gateway cannot."""
    how = f"items of gateway {gateway}"
    url = f"{site.gateways[gateway].url}/v1/conversations/{history.conversation}/items"
    begun = time.monotonic()
    items: list[Event] = []
    if limit is not None:
        answer = await http.get(url, headers=_headers(history), params={"order": "desc", "limit": str(limit)})
        if not _readable(history, how, answer):
            return None
        items = list(reversed(answer.json()["data"]))
        history.items.append(Items(how, begun, time.monotonic(), items, limit))
        return items
    more = True
    after: dict[str, str] = {}
    while more:
        answer = await http.get(url, headers=_headers(history), params={**_LIST, **after})
        if not _readable(history, how, answer):
            return None
        page = answer.json()
        items += page["data"]
        more, after = page["has_more"], {"after": page["last_id"]}
    history.items.append(Items(how, begun, time.monotonic(), items))
    return items


async def read_response(
    site: Site, http: httpx.AsyncClient, history: History, gateway: int, response_id: str
) -> Event | None:
    """Reads a response that was acknowledged, and notes it. None if the gateway cannot now."""
    how = f"retrieved from gateway {gateway}"
    begun = time.monotonic()
    answer = await http.get(f"{site.gateways[gateway].url}/v1/responses/{response_id}", headers=_headers(history))
    if not _readable(history, f"{response_id} {how}", answer):
        return None
    response: Event = answer.json()
    history.snapshots.setdefault(response_id, []).append(Snapshot(how, begun, response))
    return response


async def read_stream(
    site: Site,
    http: httpx.AsyncClient,
    history: History,
    gateway: int,
    response_id: str,
    after: int,
    by: str,
    *,
    patience: int | None = None,
) -> Stream:
    """Reads events of a response that was acknowledged, and notes them; leaves after more than ``patience``."""
    stream = Stream(after, f"{by} of gateway {gateway} after {after}")
    history.streams.setdefault(response_id, []).append(stream)
    url = f"{site.gateways[gateway].url}/v1/responses"
    if by == "sse":
        query = {"stream": "true", **({"starting_after": str(after)} if after >= 0 else {})}
        events = _sse(http, "GET", f"{url}/{response_id}", _headers(history), stream, params=query)
    else:
        asked: Event = {"type": "response.subscribe", "response_id": response_id}
        events = _socket(url, _headers(history), asked if after < 0 else {**asked, "starting_after": after}, stream)
    async with contextlib.aclosing(events):
        async for event in events:
            if event["type"] == "refused":
                stream.error = event
                if event["status"] < 500 and event["status"] != 429:
                    history.wrong.append(f"{response_id} {stream.how}: {event['status']} {event['text']}")
                break
            stream.events.append(event)
            if patience is not None and len(stream.events) > patience:
                break
    return stream


async def _sse(
    http: httpx.AsyncClient, method: str, url: str, headers: dict[str, str], stream: Stream, **request: Any
) -> AsyncGenerator[Event, None]:
    async with http.stream(method, url, headers=headers, **request) as answer:
        if not answer.is_success:
            yield {"type": "refused", "status": answer.status_code, "text": (await answer.aread()).decode()}
            return
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line[6:])
            if event["type"] == "error":
                stream.error = event
                continue
            yield event
        stream.clean = stream.error is None


async def _socket(url: str, headers: dict[str, str], asked: Event, stream: Stream) -> AsyncGenerator[Event, None]:
    address = url.replace("http", "ws", 1)
    try:
        opened = await connect(address, additional_headers=headers, proxy=None, open_timeout=5, close_timeout=0.1)
    except ConnectionRefusedError as error:
        raise httpx.ConnectError(str(error)) from error
    async with opened as socket:
        await socket.send(json.dumps(asked))
        async for message in socket:
            event = json.loads(message)
            if event["type"] == "error":
                stream.error = event
                return
            yield event
            if event["type"] in ENDS:
                stream.clean = True
                return


def _readable(history: History, what: str, answer: httpx.Response) -> bool:
    """Whether it was given. What was acknowledged is there for ever: any refusal that is no failure is wrong."""
    if answer.is_success:
        return True
    if answer.status_code < 500 and answer.status_code != 429:
        history.wrong.append(f"{what}: {answer.status_code} {answer.text}")
    elif "damage" in answer.text:
        history.wrong.append(f"{what}: {answer.text}")
    return False


def _headers(history: History) -> dict[str, str]:
    return {"authorization": f"Bearer {history.key}"}
