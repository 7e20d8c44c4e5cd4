"""One round: several histories on one site, under one nemesis, and the judgement."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.e2e.histories.checks import Stored, violations
from tests.e2e.histories.clients import Client, read_items, read_response, read_stream
from tests.e2e.histories.nemesis import Nemesis
from tests.e2e.histories.records import Attempt, Event, History, Turn
from tests.e2e.histories.site import Site

__all__ = ["Report", "round_of"]

_CLIENTS = 3
_SETTLE_SECONDS = 60.0
"""How long it may take until everything that was under way has ended; it takes two on a quiet machine."""
_RUNNING = {"queued", "in_progress"}


@dataclass
class Report:
    """What came of a round.

    Attributes:
        wrong: What the checks found.
        deeds: What the nemesis did.
        counts: How often what happened.
        seconds: How long it all took.
    """

    wrong: list[str]
    deeds: list[str]
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


async def round_of(
    site: Site, seed: int, *, histories: int, seconds: float, only: str = "", settle_seconds: float = _SETTLE_SECONDS
) -> Report:
    """Lets clients and a nemesis loose, mends everything, waits until nothing runs any more, and judges.

    Args:
        site: Where.
        seed: Decides what clients and nemesis do, though not how the processes answer.
        histories: How many, each in a conversation of its own, with several clients.
        seconds: How long they do it.
        only: The first word of the faults there are; all without one.
        settle_seconds: How long it may take afterwards until all that was under way has ended.
    """
    begun = time.monotonic()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(20, connect=2)) as http:
        open_ones = [await _history(site, http, f"s{seed}h{number}", number) for number in range(histories)]
        nemesis = Nemesis(site, random.Random(f"{seed} nemesis"), only=only)
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(nemesis.run(until))
            for number, history in enumerate(open_ones):
                foreign = open_ones[number - 1]
                for name in range(_CLIENTS):
                    choices = random.Random(f"{seed} {number} {name}")
                    client = Client(site, http, history, foreign, f"c{name}", choices)
                    group.create_task(client.run(until))
        await site.wait_until_ready()
        judged = await asyncio.gather(*(_judge(site, http, history, settle_seconds) for history in open_ones))
    counts: Counter[str] = Counter()
    for history in open_ones:
        counts += _counts(history)
    return Report([wrong for each in judged for wrong in each], nemesis.deeds, counts, time.monotonic() - begun)


async def _history(site: Site, http: httpx.AsyncClient, name: str, number: int) -> History:
    key = site.keys[number % len(site.keys)]
    url = f"{site.gateways[number % len(site.gateways)].url}/v1/conversations"
    answer = await http.post(url, json={}, headers={"authorization": f"Bearer {key}"})
    return History(name, key, answer.raise_for_status().json()["id"])


async def _judge(site: Site, http: httpx.AsyncClient, history: History, settle_seconds: float) -> list[str]:
    try:
        async with asyncio.timeout(settle_seconds):
            await _settled(site, http, history)
    except TimeoutError:
        return [f"{history.name}: not usable again after {settle_seconds:g} s; {history.wrong}"]
    responses: dict[str, Event] = {}
    streams: dict[str, list[Event]] = {}
    items: list[Event] = []
    for gateway in range(len(site.gateways)):
        items = await read_items(site, http, history, gateway) or []
        for response_id in history.known:
            response = await read_response(site, http, history, gateway, response_id)
            if response is not None:
                responses[response_id] = response
                for by in ("sse", "socket"):
                    stream = await read_stream(site, http, history, gateway, response_id, -1, by)
                    streams[response_id] = stream.events
                    if stream.error is not None or not stream.clean:
                        history.wrong.append(f"{response_id} {stream.how}: {stream.error or 'cut'}")
    return violations(history, Stored(items, responses, streams))


async def _settled(site: Site, http: httpx.AsyncClient, history: History) -> None:
    """Until all that was acknowledged has ended, and the conversation takes a turn at each gateway."""
    for response_id in history.known:
        while True:
            response = await read_response(site, http, history, 0, response_id)
            if response is not None and response["status"] not in _RUNNING:
                break
            if response is None and history.wrong:
                break
            await asyncio.sleep(0.2)
    for number, gateway in enumerate(site.gateways):
        turn = Turn(f"{history.name}.last.{number}", f"key-{history.name}.last.{number}", history.conversation)
        history.turns.append(turn)
        await _asked(http, f"{gateway.url}/v1/responses", history, turn)


async def _asked(http: httpx.AsyncClient, url: str, history: History, turn: Turn) -> None:
    body = {"model": "fake", "input": turn.text, "conversation": turn.conversation}
    headers = {"authorization": f"Bearer {history.key}", "idempotency-key": str(turn.key)}
    while True:
        attempt = Attempt(f"http at {url}", time.monotonic())
        turn.attempts.append(attempt)
        with contextlib.suppress(httpx.TransportError):
            answer = await http.post(url, json=body, headers=headers)
            attempt.said = f"{answer.status_code} {answer.text}"
            if answer.is_success:
                attempt.heard(answer.json()["id"])
                return
            if answer.status_code == 404:
                history.wrong.append(f"{turn.text}: {answer.text}")
                return
        await asyncio.sleep(0.3)


def _counts(history: History) -> Counter[str]:
    counts: Counter[str] = Counter()
    for turn in history.turns:
        counts["turns"] += 1
        counts["acknowledged turns"] += bool(turn.response_ids)
        counts["tried again"] += len(turn.attempts) > 1
        for attempt in turn.attempts:
            counts[attempt.outcome] += 1
            if not attempt.response_id:
                counts[f"said: {attempt.said[:70]}"] += 1
    counts["reads of items"] += len(history.items)
    counts["streams"] += sum(len(each) for each in history.streams.values())
    finals = {each: seen[-1].response["status"] for each, seen in history.snapshots.items()}
    counts.update(f"ended {status}" for status in finals.values())
    return counts
