"""The batch loop: order, urgency, duplicates, callers who leave, full queues and failing models."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cloister_common.errors import CloisterError, TooManyRequests, Unavailable
from cloister_common.supervisor import Supervisor
from cloister_embedder.batching import Batcher, BatcherLimits, BatchLimits
from cloister_embedder.models import Tokens

from tests.support.embedder import FakeEncoder, text_tokens, vector_of
from tests.support.waiting import until


@asynccontextmanager
async def running(
    encoder: FakeEncoder, *, texts: int = 8, interactive: int = 64, bulk: int = 4096
) -> AsyncIterator[Batcher[bytes]]:
    limits = BatcherLimits(
        batch=BatchLimits(texts, 4096),
        window_seconds=0.001,
        interactive_texts=4,
        max_waiting={"interactive": interactive, "bulk": bulk},
    )
    batcher: Batcher[bytes] = Batcher("fake", encoder, limits, threading.Lock())
    supervisor = Supervisor()
    supervisor.loop("batches", batcher.run)
    try:
        yield batcher
    finally:
        encoder.gate.set()
        await supervisor.close()
        await batcher.close()


async def entered(encoder: FakeEncoder) -> None:
    """Waits until the next batch is in the model's hands."""
    assert await asyncio.to_thread(encoder.entered.acquire, timeout=10)


def items(*texts: str) -> list[Tokens]:
    return [text_tokens(text) for text in texts]


async def test_results_come_in_the_order_of_the_texts_whatever_their_length() -> None:
    texts = [" ".join(["word"] * (1 + (index * 7) % 23)) + f" t{index}" for index in range(100)]
    async with running(FakeEncoder()) as batcher:
        results = await batcher.submit(items(*texts), bulk=False)
    assert results == [vector_of(text_tokens(text)) for text in texts]


async def test_texts_of_several_callers_share_a_batch() -> None:
    encoder = FakeEncoder()
    async with running(encoder) as batcher:
        await asyncio.gather(*(batcher.submit(items(f"a{index}"), bulk=False) for index in range(4)))
    assert encoder.batches == [[1, 1, 1, 1]]


async def test_query_goes_before_a_waiting_upload() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    async with running(encoder) as batcher:
        upload = asyncio.create_task(batcher.submit(items(*(f"u{i} v w" for i in range(200))), bulk=True))
        await entered(encoder)
        query = asyncio.create_task(batcher.submit(items("one query"), bulk=False))
        await asyncio.sleep(0)
        encoder.gate.set()
        await query
        assert not upload.done()
        await upload
    assert encoder.batches[1] == [2], "the query is the very next batch after the one under way"


async def test_flagged_bulk_text_waits_in_the_bulk_lane_however_small() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    async with running(encoder) as batcher:
        first = asyncio.create_task(batcher.submit(items("a"), bulk=False))
        await entered(encoder)
        bulk = asyncio.create_task(batcher.submit(items("b b b"), bulk=True))
        await asyncio.sleep(0)
        query = asyncio.create_task(batcher.submit(items("c c"), bulk=False))
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(first, bulk, query)
    assert encoder.batches == [[1], [2], [3]]


async def test_unending_queries_do_not_starve_an_upload() -> None:
    encoder = FakeEncoder()
    async with running(encoder, texts=2) as batcher:
        stop = asyncio.Event()

        async def ask(name: int) -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                await batcher.submit(items(f"q{name} x{turn}"), bulk=False)

        askers = [asyncio.create_task(ask(name)) for name in range(8)]
        async with asyncio.timeout(10):
            await batcher.submit(items(*(f"u{i} v w" for i in range(20))), bulk=True)
        stop.set()
        await asyncio.gather(*askers)


async def test_equal_texts_are_computed_once() -> None:
    encoder = FakeEncoder()
    async with running(encoder) as batcher:
        results = await batcher.submit(items("same", "other", "same", "same"), bulk=False)
    assert encoder.batches == [[1, 1]]
    assert results[0] == results[2] == results[3] != results[1]


async def test_waiting_texts_of_a_caller_who_left_are_dropped() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    async with running(encoder) as batcher:
        first = asyncio.create_task(batcher.submit(items("first"), bulk=False))
        await entered(encoder)
        leaver = asyncio.create_task(batcher.submit(items(*(f"l{i} m" for i in range(100))), bulk=True))
        stayer = asyncio.create_task(batcher.submit(items("stays on and on"), bulk=True))
        await asyncio.sleep(0)
        leaver.cancel()
        encoder.gate.set()
        await asyncio.gather(first, stayer)
        with pytest.raises(asyncio.CancelledError):
            await leaver
    assert encoder.batches == [[1], [4]]


async def test_caller_who_leaves_during_the_pass_hurts_nobody() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    async with running(encoder) as batcher:
        leaver = asyncio.create_task(batcher.submit(items("a"), bulk=False))
        stayer = asyncio.create_task(batcher.submit(items("b"), bulk=False))
        await entered(encoder)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        encoder.gate.set()
        assert await stayer == [vector_of(text_tokens("b"))]


async def test_full_lane_refuses_with_a_time_to_come_back_and_the_other_lane_stays_open() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    async with running(encoder, interactive=4, bulk=2048) as batcher:
        first = asyncio.create_task(batcher.submit(items("first"), bulk=False))
        await entered(encoder)
        upload = asyncio.create_task(batcher.submit(items(*(f"u{i}" for i in range(2048))), bulk=True))
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests) as refused:
            await batcher.submit(items("one more"), bulk=True)
        assert refused.value.retry_after is not None
        assert 1 <= refused.value.retry_after <= 60
        query = asyncio.create_task(batcher.submit(items("a query"), bulk=False))
        encoder.gate.set()
        await asyncio.gather(first, query, upload)
        assert await batcher.submit(items("one more"), bulk=True)


async def test_failed_batch_fails_its_callers_and_the_next_one_is_served() -> None:
    encoder = FakeEncoder()
    encoder.failures = [RuntimeError("out of memory")]
    async with running(encoder) as batcher:
        with pytest.raises(CloisterError) as failed:
            await batcher.submit(items("a"), bulk=False)
        assert failed.value.status == 500
        assert "memory" not in failed.value.message
        assert await batcher.submit(items("a"), bulk=False)


async def test_the_other_texts_of_a_failed_caller_are_not_computed() -> None:
    encoder = FakeEncoder()
    encoder.failures = [RuntimeError("out of memory")]
    async with running(encoder, texts=2) as batcher:
        with pytest.raises(CloisterError):
            await batcher.submit(items(*(f"u{i}" for i in range(100))), bulk=True)
        assert await batcher.submit(items("a b"), bulk=True)
    assert encoder.batches in ([[1, 1], [2]], [[1, 1], [1, 1], [2]]), (
        "one batch may be under way before the caller knows"
    )


async def test_a_model_that_loses_a_text_fails_its_callers_instead_of_letting_them_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = FakeEncoder()
    monkeypatch.setattr(encoder, "encode", lambda batch: [vector_of(tokens) for tokens in batch[1:]])
    async with running(encoder) as batcher, asyncio.timeout(10):
        with pytest.raises(CloisterError):
            await batcher.submit(items("a", "b"), bulk=False)


async def test_closing_fails_those_who_wait_with_a_reason_to_try_again() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    async with running(encoder) as batcher:
        under_way = asyncio.create_task(batcher.submit(items("a"), bulk=False))
        await entered(encoder)
        waiting = asyncio.create_task(batcher.submit(items(*(f"w{i} x" for i in range(20))), bulk=True))
        await asyncio.sleep(0)
    for task in (under_way, waiting):
        with pytest.raises(Unavailable):
            await task


async def test_event_loop_turns_while_the_model_computes() -> None:
    encoder = FakeEncoder()
    encoder.gate.clear()
    async with running(encoder) as batcher:
        task = asyncio.create_task(batcher.submit(items("a"), bulk=False))
        await entered(encoder)
        turns = 0

        def turned() -> bool:
            nonlocal turns
            turns += 1
            return turns > 50

        await until(turned)
        assert not task.done()
        encoder.gate.set()
        await task
