"""Gateways and pods that go away in the middle of a batch: every line is in its files once."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import free_port, served
from prometheus_client import REGISTRY

from tests.integration.gateway.batches.conftest import (
    CHAT,
    EMBEDDINGS,
    RESPONSES,
    Batches,
    MakeBatches,
    asked,
    begin,
    counts,
    ended,
    ids,
    lines_of,
)
from tests.integration.gateway.conftest import sdk
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


class Pod:
    """The pod, on a port of its own: to be killed, and to come back there."""

    def __init__(self, llm: FakeLlm) -> None:
        self._llm = llm
        self._port = free_port()
        self._served = contextlib.ExitStack()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._served.enter_context(served(self._llm, self._port))

    def kill(self) -> None:
        self._served.close()


@pytest.fixture
def pod(llm: FakeLlm) -> Iterator[Pod]:
    made = Pod(llm)
    made.start()
    yield made
    llm.release()
    made.kill()


@pytest.fixture
def batches(make_batches: MakeBatches, pod: Pod) -> Batches:
    """As everywhere, with a pod that can be killed, and may take its time to come back."""
    models = {"fake": {"urls": [pod.url], "context_tokens": 2048}}
    return make_batches({"models": models}, retry_seconds=0.05, attempts=12, part_lines=40)


@pytest.fixture
def process(batches: Batches, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway in a process of its own, with no other beside it."""
    gateway = GatewayProcess(tmp_path / "process", batches.gateway.settings)
    gateway.start()
    yield gateway
    batches.retriever.may_write.set()
    gateway.kill()


# 20 s of it are a process that starts and a lease that is over, on a busy machine.
def test_no_line_of_a_thousand_is_lost_or_doubled_though_pod_and_gateway_are_killed(
    batches: Batches, pod: Pod, process: GatewayProcess, redis_server: RedisServer
) -> None:
    sizes = {CHAT: 600, RESPONSES: 250, EMBEDDINGS: 150}
    llm, holds_from = batches.llm, 60

    def answer(body: dict[str, Any]) -> list[str]:
        if int(body["messages"][-1]["content"].split()[-1]) >= holds_from:
            llm.hold_after = 1
        return ["one", " two"]

    llm.respond = answer
    dying = sdk(process.url, batches.gateway)
    made = {
        endpoint: begin(dying, endpoint, [asked(endpoint, number) for number in range(size)]).id
        for endpoint, size in sizes.items()
    }
    wait_until(lambda: llm.running >= 20, what="lines are under way")
    holds_from = 120
    pod.kill()
    llm.release()
    pod.start()
    wait_until(lambda: llm.hold_after and llm.running >= 20, what="more lines are under way")
    assert all(dying.batches.retrieve(made[endpoint]).status == "in_progress" for endpoint in (CHAT, RESPONSES))
    process.kill()
    holds_from = max(sizes.values())
    llm.release()
    with batches.gateway.serve() as url, redis_server.client() as redis:
        client = sdk(url, batches.gateway)
        files, responses = set(), set()
        for endpoint, batch_id in made.items():
            batch, size = ended(client, batch_id, seconds=120), sizes[endpoint]
            assert (batch.status, counts(batch), batch.error_file_id) == ("completed", (size, size, 0), None)
            answers = lines_of(client, batch.output_file_id)
            assert ids(answers) == [f"request-{number}" for number in range(size)]
            files.add(batch.output_file_id)
            if endpoint == RESPONSES:
                responses = {answer["response"]["body"]["id"] for answer in answers}
        assert {file.id for file in client.files.list(purpose="batch_output")} == files
        wait_until(lambda: not redis.exists("batches:active"), what="the leases are given up")
        left = Counter(key.decode().split(":")[0] for key in redis.keys("batch*"))
        # The batches, the list of their project's, and when they go.
        assert left == {"batch": 3, "batches": 2}
        parts = batches.retriever.parts
        assert (len(parts.written) >= 20, parts.kept) == (True, {}), "results went by the object store, and left it"
        # What was under way at the kill was gone on with: there is no second response of a line.
        assert {key.decode().split("{")[1].split("}")[0] for key in redis.keys("resp:*")} == responses


def test_a_gateway_that_stops_hands_its_batch_over(batches: Batches) -> None:
    batches.llm.hold_after = 0
    with batches.gateway.serve() as url:
        made = begin(sdk(url, batches.gateway), CHAT, [asked(CHAT, number) for number in range(5)])
        wait_until(lambda: batches.llm.running == 5, what="lines are under way")
    batches.llm.release()
    with batches.gateway.serve() as url:
        assert counts(ended(sdk(url, batches.gateway), made.id)) == (5, 5, 0)


def test_responses_under_way_are_gone_on_with_by_whoever_takes_the_batch_from_a_gateway_that_lost_it(
    batches: Batches, client: Any, redis_server: RedisServer
) -> None:
    batches.llm.hold_after = 1
    made = begin(client, RESPONSES, [asked(RESPONSES, number) for number in range(5)])
    wait_until(lambda: batches.llm.running == 5, what="lines are under way")
    with redis_server.client() as redis:
        lease = f"batch:{{{made.id}}}:lease"
        redis.set(lease, "another", px=60_000)
        wait_until(lambda: not _batches_here(), what="the gateway has seen that the batch is not its own")
        redis.delete(lease)
        redis.zadd("batches:active", {made.id: 0})
        wait_until(_batches_here, what="the batch is taken again")
    batches.llm.release()
    batch = ended(client, made.id)
    assert (batch.status, counts(batch)) == ("completed", (5, 5, 0))
    assert (len(batches.llm.chats()), batches.llm.aborted) == (5, 0), "nothing of it was stopped, or asked for again"


def _batches_here() -> float | None:
    return REGISTRY.get_sample_value("cloister_batches_running")


def test_files_are_written_once_though_the_gateway_dies_while_it_writes_them(
    batches: Batches, process: GatewayProcess
) -> None:
    batches.retriever.may_write.clear()
    lines = [asked(CHAT, number) for number in range(3)]
    lines[1]["body"]["messages"][0]["content"] = "word " * 3000
    made = begin(sdk(process.url, batches.gateway), CHAT, lines)
    wait_until(lambda: batches.retriever.writing == 1, what="the output is being written")
    before = sdk(process.url, batches.gateway).batches.retrieve(made.id)
    assert (before.status, before.output_file_id, counts(before)) == ("finalizing", None, (3, 2, 1))
    process.kill()
    batches.retriever.may_write.set()
    asked_before = len(batches.llm.chats())
    with batches.gateway.serve() as url:
        client = sdk(url, batches.gateway)
        batch = ended(client, made.id)
        assert (batch.status, counts(batch)) == ("completed", (3, 2, 1))
        assert ids(lines_of(client, batch.output_file_id)) == ["request-0", "request-2"]
        assert ids(lines_of(client, batch.error_file_id)) == ["request-1"]
        files = {file.id for file in client.files.list(purpose="batch_output")}
        assert files == {batch.output_file_id, batch.error_file_id}
    assert len(batches.llm.chats()) == asked_before


def test_lines_are_tried_again_while_the_pod_is_away(batches: Batches, client: Any) -> None:
    batches.llm.refuse_status = 503
    made = begin(client, CHAT, [asked(CHAT, number) for number in range(4)])
    wait_until(lambda: len(batches.llm.requests) >= 4, what="all have been tried")
    batches.llm.refuse_status = None
    batch = ended(client, made.id)
    assert (batch.status, counts(batch)) == ("completed", (4, 4, 0))
    assert ids(lines_of(client, batch.output_file_id)) == [f"request-{number}" for number in range(4)]


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_a_pod_that_stays_away_is_told_by_every_line(make_batches: MakeBatches, endpoint: str) -> None:
    batches = make_batches(retry_seconds=0.01, attempts=2)
    batches.llm.refuse_status = 503
    with batches.gateway.serve() as url:
        client = sdk(url, batches.gateway)
        batch = ended(client, begin(client, endpoint, [asked(endpoint, number) for number in range(3)]).id)
        assert (batch.status, counts(batch), batch.output_file_id) == ("completed", (3, 0, 3), None)
        errors = lines_of(client, batch.error_file_id)
        assert ids(errors) == ["request-0", "request-1", "request-2"]
        assert {line["response"]["status_code"] >= 500 for line in errors} == {True}
        assert all(line["response"]["body"]["error"]["message"] for line in errors)


def test_a_limit_holds_lines_back_and_fails_none(make_batches: MakeBatches) -> None:
    batches = make_batches({"limits": {"rules": {"few": {"level": "project", "running": 2}}}})
    with batches.gateway.serve() as url:
        client = sdk(url, batches.gateway)
        batch = ended(client, begin(client, CHAT, [asked(CHAT, number) for number in range(6)]).id)
        assert (batch.status, counts(batch)) == ("completed", (6, 6, 0))
        assert batches.llm.most_running <= 2


def test_nothing_of_a_batch_is_readable_in_redis(batches: Batches, client: Any, redis_server: RedisServer) -> None:
    batches.llm.answer = ["CANARY-answer"]
    lines = [asked(CHAT, 0)]
    lines[0]["custom_id"] = "CANARY-id"
    lines[0]["body"]["messages"][0]["content"] = "CANARY-question"
    batches.retriever.may_write.clear()
    made = begin(client, CHAT, lines, metadata={"name": "CANARY-metadata"})
    wait_until(lambda: batches.retriever.writing == 1, what="the line is done")
    with redis_server.client() as redis:
        written = b"".join(redis.dump(key) or b"" for key in redis.keys("*"))
    written += b"".join(path.read_bytes() for path in redis_server.folder.rglob("*") if path.is_file())
    assert made.id.encode() in written
    assert b"CANARY" not in written
    batches.retriever.may_write.set()
    [answer] = lines_of(client, ended(client, made.id).output_file_id)
    assert "CANARY-answer" in json.dumps(answer)
