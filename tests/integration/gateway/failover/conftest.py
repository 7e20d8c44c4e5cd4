"""Callers who keep on asking while the store behind the gateways loses a part of itself."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
from cloister_common.ids import new_id

from tests.support.redis_cluster import RedisCluster
from tests.support.waiting import wait_until

__all__ = ["CONFIRMED", "Caller", "callers"]

CONFIRMED = {"replicas_to_wait": 1, "wait_milliseconds": 4000}
"""Of a ``redis`` section. A server that the disk holds up for a second or two is no replica that is missing."""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster that all tests share: nine servers, which take three seconds to start."""
    servers = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield servers.start()
    finally:
        servers.stop()


@dataclass
class Caller:
    """One caller, who has one conversation, and repeats what was not acknowledged under its idempotency key.

    Attributes:
        client: The SDK.
        conversation: The id of the conversation.
        said: The inputs that were acknowledged, with the response's id each.
        faults: What came in place of an acknowledgement.
    """

    client: Any
    conversation: str
    said: dict[str, str] = field(default_factory=dict)
    faults: list[openai.APIError] = field(default_factory=list)

    def go_on(self, stopping: threading.Event) -> None:
        """Asks, one turn after another."""
        for number in itertools.count():
            if stopping.is_set():
                return
            self.ask(f"input {number}", stopping)

    def ask(self, said: str, stopping: threading.Event) -> None:
        """Asks until the turn is acknowledged or the caller gives up."""
        headers = {"Idempotency-Key": new_id("")}
        while not stopping.is_set():
            try:
                done = self.client.responses.create(
                    model="fake", input=said, conversation=self.conversation, extra_headers=headers
                )
            except (openai.InternalServerError, openai.APIConnectionError, openai.ConflictError) as error:
                # (A conflict: the turn whose acknowledgement was lost has not ended yet.)
                self.faults.append(error)
                stopping.wait(0.1)
                continue
            if done.status == "completed":
                self.said[said] = done.id
                return
            self.faults.append(openai.APIError(str(done.error), request=None, body=None))  # type: ignore[arg-type]
            stopping.wait(0.1)

    def check(self, client: Any) -> None:
        """All that was acknowledged is there, once, in the order in which it was asked, with its answer."""
        items = list(client.conversations.items.list(self.conversation, order="asc", limit=100))
        spoken = [item.content[0].text for item in items if item.role == "user"]
        kept = [said for said in spoken if said in self.said]
        assert kept == list(self.said)
        for response_id in self.said.values():
            assert client.responses.retrieve(response_id).output_text == "Hello, this is the fake."


@contextlib.contextmanager
def callers(clients: list[Any], count: int = 6) -> Iterator[list[Caller]]:
    """Callers at work while the block runs; each has had two turns before it begins, and has one more at its end."""
    made = [
        Caller(client, client.conversations.create().id) for client in itertools.islice(itertools.cycle(clients), count)
    ]
    stopping = threading.Event()
    with ThreadPoolExecutor(count) as pool:
        working = [pool.submit(caller.go_on, stopping) for caller in made]
        try:
            _wait_for_turns(made, 2)
            yield made
            _wait_for_turns(made, 1)
        finally:
            stopping.set()
        for work in working:
            work.result()


def _wait_for_turns(made: list[Caller], turns: int) -> None:
    before = [len(caller.said) for caller in made]
    wait_until(
        lambda: all(len(caller.said) >= had + turns for caller, had in zip(made, before, strict=True)),
        what="further turns of all callers",
    )
