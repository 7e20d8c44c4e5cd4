"""The item log on a real redis-server: what was written is what is read, whoever writes at the same time."""

import asyncio
import itertools
from typing import Any

import pytest
from cloister_gateway.storage import ItemLog, KeyedObject, LogGoneError, LogLockedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from tests.integration.gateway.conftest import MakeKeyed, filled, item

SAME_REDIS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


async def bodies(items: ItemLog, keyed: KeyedObject) -> list[dict[str, Any]]:
    return [stored.body for stored in await items.load(keyed)]


@SAME_REDIS
@given(
    steps=st.lists(
        st.one_of(
            st.lists(st.text(max_size=20), min_size=0, max_size=3),
            st.integers(min_value=0, max_value=10),
        ),
        max_size=12,
    )
)
async def test_any_sequence_of_writes_reads_back_in_order(
    steps: list[list[str] | int], items: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    expected: list[dict[str, Any]] = []
    places = itertools.count(1)
    seqs: dict[str, int] = {}
    for step in steps:
        if isinstance(step, list):
            new = [item(text) for text in step]
            stored = await items.append(keyed, new)
            assert [one.body for one in stored] == new
            for body in new:
                seqs[body["id"]] = next(places)
            expected += new
        elif step < len(expected):
            assert await items.remove(keyed, expected.pop(step)["id"])
        else:
            assert not await items.remove(keyed, "msg_unknown")
        loaded = await items.load(keyed)
        assert [one.body for one in loaded] == expected
        assert [(one.id, one.seq) for one in loaded] == [(body["id"], seqs[body["id"]]) for body in expected]


async def test_concurrent_writers_leave_every_item_once_without_gaps(items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    written = [[item(f"{writer}.{n}") for n in range(3)] for writer in range(24)]
    await asyncio.gather(*(items.append(keyed, batch) for batch in written))
    loaded = await items.load(keyed)
    assert [one.seq for one in loaded] == list(range(1, 73))
    order = [one.id for one in loaded]
    for batch in written:
        first = order.index(batch[0]["id"])
        assert order[first : first + 3] == [body["id"] for body in batch]


async def test_removals_beside_appends_keep_the_chain(items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    written = await filled(items, keyed, 8)
    new = [item(f"new {number}") for number in range(8)]
    results = await asyncio.gather(
        *(items.remove(keyed, body["id"]) for body in written[::2]), *(items.append(keyed, [body]) for body in new)
    )
    assert results[:4] == [True] * 4
    left = await bodies(items, keyed)
    assert left[:4] == written[1::2]
    assert {body["id"] for body in left[4:]} == {body["id"] for body in new}


async def test_one_of_two_who_remove_the_same_item_is_told_that_it_is_gone(items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    written = await filled(items, keyed, 2)
    outcomes = await asyncio.gather(*(items.remove(keyed, written[0]["id"]) for _ in range(4)))
    assert sorted(outcomes) == [False, False, False, True]
    assert await bodies(items, keyed) == written[1:]


async def test_a_log_that_was_deleted_takes_nothing_and_stays_away(
    redis: Redis, items: ItemLog, make_log: MakeKeyed
) -> None:
    keyed = await make_log()
    written = await filled(items, keyed, 1)
    await items.destroy(keyed.kind, keyed.id)
    for refused in (items.load(keyed), items.append(keyed, [item()]), items.remove(keyed, written[0]["id"])):
        with pytest.raises(LogGoneError):
            await refused
    assert await redis.keys(f"*{keyed.id}*") == []


async def test_a_log_held_by_a_run_takes_only_what_that_run_writes(items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    await items.append(keyed, [item("question")], hold_for="resp_1")
    for run, hold_for in (("", ""), ("", "resp_2"), ("resp_2", "")):
        with pytest.raises(LogLockedError) as refused:
            await items.append(keyed, [item("other")], run=run, hold_for=hold_for)
        assert refused.value.args == ("resp_1",)
    await items.append(keyed, [item("answer")], run="resp_1")
    assert [body["text"] for body in await bodies(items, keyed)] == ["question", "answer"]
    await items.append(keyed, [item("next")])


async def test_a_run_whose_output_is_stored_cannot_store_it_again_after_others_wrote(
    items: ItemLog, make_log: MakeKeyed
) -> None:
    """A gateway may die between storing the output and saying so; the next holder tries again, perhaps much later."""
    keyed = await make_log()
    answer = item("answer")
    await items.append(keyed, [item("question")], hold_for="resp_1")
    await items.append(keyed, [answer], run="resp_1")
    with pytest.raises(LogLockedError):
        await items.append(keyed, [answer], run="resp_1")
    await items.append(keyed, [item("2")], hold_for="resp_2")
    await items.append(keyed, [item("3")], run="resp_2")
    with pytest.raises(LogLockedError):
        await items.append(keyed, [answer], run="resp_1")
    assert [body["text"] for body in await bodies(items, keyed)] == ["question", "answer", "2", "3"]


async def test_a_run_without_output_sets_the_log_free(items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    await items.append(keyed, [item("question")], hold_for="resp_1")
    await items.append(keyed, [], run="resp_1")
    await items.append(keyed, [item("next")])


async def test_a_log_is_freed_only_of_the_run_that_is_named(items: ItemLog, make_log: MakeKeyed) -> None:
    keyed = await make_log()
    await items.append(keyed, [item()], hold_for="resp_1")
    await items.free(keyed.kind, keyed.id, "resp_2")
    with pytest.raises(LogLockedError):
        await items.append(keyed, [item()])
    await items.free(keyed.kind, keyed.id, "resp_1")
    await items.append(keyed, [item()])
