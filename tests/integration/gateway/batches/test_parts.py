"""Results of a batch that runs go from Redis into sealed parts: Redis has few of them, and every line is there once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloister_common.testing.retriever_parts import FakeParts

from tests.integration.gateway.batches.conftest import (
    CHAT,
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

AT_ONCE, PART = 4, 10
LINES = 60
WAITING = 2 * PART + AT_ONCE - 2
"""Results in Redis while the store is away: one line waits from the tenth on, the others from the twentieth."""

NAMES = [f"request-{number}" for number in range(LINES)]


@pytest.fixture
def batches(make_batches: MakeBatches) -> Batches:
    """Ten results are a part."""
    return make_batches(retry_seconds=0.05, lines_at_once=AT_ONCE, part_lines=PART)


@pytest.fixture
def parts(batches: Batches) -> Iterator[FakeParts]:
    yield batches.retriever.parts
    batches.retriever.parts.may_keep.set()


Held = Callable[[str], int]


@pytest.fixture
def held(redis_server: RedisServer) -> Held:
    """How many results of a batch lie in Redis."""

    def count(batch_id: str) -> int:
        with redis_server.client() as redis:
            return int(redis.hlen(f"batch:{{{batch_id}}}:lines"))

    return count


@pytest.fixture
def left(redis_server: RedisServer) -> Callable[[str], set[str]]:
    """What Redis has of a batch beside its record."""

    def names(batch_id: str) -> set[str]:
        with redis_server.client() as redis:
            return {key.decode().split("}:")[-1] for key in redis.keys(f"batch:{{{batch_id}}}:*")}

    return names


def requests() -> list[dict[str, Any]]:
    return [asked(CHAT, number) for number in range(LINES)]


def test_results_go_into_parts_that_nobody_can_read_and_are_gone_at_the_end(
    batches: Batches, parts: FakeParts, client: Any, held: Held, left: Callable[[str], set[str]]
) -> None:
    batches.llm.answer = ["CANARY-answer"]
    lines = requests()
    lines[PART + 2]["body"]["messages"][0]["content"] = "word " * 3000
    batches.retriever.may_write.clear()
    made = begin(client, CHAT, lines)
    wait_until(lambda: batches.retriever.writing == 1, what="all are done")
    assert len(parts.kept) == len(parts.written) >= 4
    assert held(made.id) < PART
    assert {batch_id for _, batch_id, _ in parts.kept} == {made.id}
    assert not any(b"CANARY" in content or b"request-" in content for content in parts.kept.values())
    batches.retriever.may_write.set()
    batch = ended(client, made.id)
    assert (batch.status, counts(batch)) == ("completed", (LINES, LINES - 1, 1))
    assert ids(lines_of(client, batch.output_file_id)) == [name for name in NAMES if name != f"request-{PART + 2}"]
    assert ids(lines_of(client, batch.error_file_id)) == [f"request-{PART + 2}"]
    wait_until(lambda: not parts.kept, what="the parts are removed")
    wait_until(lambda: not left(made.id), what="nothing but its record is left of it in Redis")


@pytest.mark.parametrize("kept", [False, True], ids=["before the part is kept", "before it is noted"])
def test_a_gateway_killed_on_the_way_of_a_part_loses_and_doubles_no_line(
    batches: Batches, parts: FakeParts, tmp_path: Path, kept: bool
) -> None:
    """It takes as long as a process to start, and as a lease to be over."""

    def hold_next(_: object) -> list[str]:
        if len(parts.written) == 1:
            parts.may_keep.clear()
        return ["one"]

    process = GatewayProcess(tmp_path / "process", batches.gateway.settings)
    process.start()
    try:
        # The first part is noted, the second on its way.
        client = sdk(process.url, batches.gateway)
        batches.llm.respond = hold_next
        parts.hold_kept = kept
        made = begin(client, CHAT, requests())
        wait_until(lambda: parts.waiting == 1, what="a part is on its way")
        assert client.batches.retrieve(made.id).status == "in_progress"
    finally:
        process.kill()
    batches.llm.respond = lambda _: ["one"]
    parts.may_keep.set()
    wait_until(lambda: len(parts.written) == 2, what="the part of the dead arrives after all")
    with batches.gateway.serve() as url:
        client = sdk(url, batches.gateway)
        batch = ended(client, made.id)
        assert (batch.status, counts(batch)) == ("completed", (LINES, LINES, 0))
        assert ids(lines_of(client, batch.output_file_id)) == NAMES
        wait_until(lambda: not parts.kept, what="the parts are removed, that of the dead too")


def test_a_store_that_is_away_holds_a_batch_up_before_redis_is_full_of_it(
    batches: Batches, parts: FakeParts, client: Any, held: Held
) -> None:
    parts.refused = {"PUT"}
    made = begin(client, CHAT, requests())
    wait_until(lambda: held(made.id) == WAITING, what="it waits")
    parts.refused = set()
    batch = ended(client, made.id)
    assert (batch.status, counts(batch)) == ("completed", (LINES, LINES, 0))
    assert ids(lines_of(client, batch.output_file_id)) == NAMES


def test_a_batch_that_waits_for_the_store_can_be_cancelled_and_keeps_what_is_done(
    batches: Batches, parts: FakeParts, client: Any, held: Held
) -> None:
    parts.refused = {"PUT"}
    made = begin(client, CHAT, requests())
    wait_until(lambda: held(made.id) == WAITING, what="it waits")
    client.batches.cancel(made.id)
    batch = ended(client, made.id)
    assert (batch.status, counts(batch)) == ("cancelled", (LINES, WAITING, 0))
    done, never = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert sorted(ids(done) + ids(never)) == sorted(NAMES)
    assert (len(done), {line["error"]["code"] for line in never}) == (WAITING, {"batch_cancelled"})


def test_a_part_that_arrives_after_its_batch_was_cancelled_goes_with_the_batch(
    parts: FakeParts, client: Any, redis_server: RedisServer
) -> None:
    parts.may_keep.clear()
    made = begin(client, CHAT, requests())
    wait_until(lambda: parts.waiting == 1, what="a part is on its way")
    client.batches.cancel(made.id)
    assert ended(client, made.id).status == "cancelled"
    with redis_server.client() as redis:
        wait_until(lambda: redis.zscore("batches:ended", made.id), what="nothing is left to do for it")
        parts.may_keep.set()
        wait_until(lambda: parts.kept, what="the part arrives after all")
        redis.zadd("batches:ended", {made.id: 0})
        wait_until(lambda: redis.zscore("batches:ended", made.id) is None, what="the batch was kept for long enough")
    assert not parts.kept


def test_parts_are_removed_later_where_the_store_is_away_at_the_end(
    parts: FakeParts, client: Any, left: Callable[[str], set[str]]
) -> None:
    """It waits for the end of a lease."""
    parts.refused = {"DELETE"}
    made = begin(client, CHAT, requests())
    assert counts(ended(client, made.id)) == (LINES, LINES, 0)
    assert parts.kept
    parts.refused = set()
    wait_until(lambda: not parts.kept, what="they are removed")
    wait_until(lambda: not left(made.id), what="Redis knows of none")


@pytest.mark.parametrize("noted", [False, True], ids=["the part", "what Redis says of it"])
def test_a_part_that_is_damaged_ends_its_batch_and_is_told(
    batches: Batches, parts: FakeParts, client: Any, redis_server: RedisServer, noted: bool
) -> None:

    def hold(body: dict[str, Any]) -> list[str]:
        if int(body["messages"][-1]["content"].split()[-1]) == LINES - 1:
            batches.llm.hold_after = 0
        return ["one"]

    batches.llm.respond = hold
    made = begin(client, CHAT, requests())
    wait_until(lambda: batches.llm.hold_after == 0 and batches.llm.running, what="the last line is under way")
    name = next(iter(parts.kept))
    if noted:
        with redis_server.client() as redis:
            redis.hset(f"batch:{{{made.id}}}:parts", name[-1], b"no numbers")
    else:
        parts.kept[name] = parts.kept[name][:-1]
    batches.llm.release()
    batch = ended(client, made.id)
    assert (batch.status, [error.code for error in batch.errors.data]) == ("failed", ["stored_data_damaged"])
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    wait_until(lambda: not parts.kept, what="the others are removed")
