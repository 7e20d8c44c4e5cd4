"""The waiting texts: which of them form a batch, and who is never forgotten."""

from itertools import pairwise

from cloister_embedder.batching import BatchLimits, Entry, Job, Lane
from cloister_embedder.models import Tokens
from hypothesis import given, settings
from hypothesis import strategies as st

WIDE = BatchLimits(texts=1000, tokens=100_000)


def tokens(length: int, mark: int = 0) -> Tokens:
    return Tokens(mark.to_bytes(4, "little") * length, b"", length)


def lengths(batch: list[Entry[bytes]]) -> list[int]:
    return [entry.tokens.length for entry in batch]


async def test_batch_holds_the_oldest_text_and_its_neighbours_in_length() -> None:
    lane: Lane[bytes] = Lane()
    lane.add(Job(1), [tokens(100)], 0.0)
    lane.add(Job(4), [tokens(5), tokens(99), tokens(101), tokens(250)], 1.0)
    assert lengths(lane.take(BatchLimits(texts=3, tokens=100_000))) == [99, 100, 101]
    assert lane.texts == 2


async def test_batch_keeps_to_the_padded_token_budget() -> None:
    lane: Lane[bytes] = Lane()
    lane.add(Job(64), [tokens(128, mark) for mark in range(64)], 0.0)
    assert len(lane.take(BatchLimits(texts=100, tokens=1024))) == 8


async def test_text_longer_than_the_token_budget_still_gets_its_batch() -> None:
    lane: Lane[bytes] = Lane()
    lane.add(Job(1), [tokens(300)], 0.0)
    assert lengths(lane.take(BatchLimits(texts=8, tokens=256))) == [300]


async def test_short_texts_do_not_pad_a_long_batch() -> None:
    lane: Lane[bytes] = Lane()
    lane.add(Job(40), [tokens(250, mark) for mark in range(20)] + [tokens(3, mark) for mark in range(20)], 0.0)
    batch = lengths(lane.take(WIDE))
    assert batch.count(250) == 20
    assert len(batch) * 250 - sum(batch) <= len(batch) * 25
    assert set(lengths(lane.take(WIDE))) == {3}


async def test_few_texts_of_any_length_share_a_batch_since_padding_is_cheaper_than_a_pass() -> None:
    lane: Lane[bytes] = Lane()
    lane.add(Job(3), [tokens(5), tokens(40), tokens(120)], 0.0)
    assert lengths(lane.take(WIDE)) == [5, 40, 120]


async def test_equal_texts_of_several_callers_are_one_entry_with_all_their_waiters() -> None:
    lane: Lane[bytes] = Lane()
    first, second = Job[bytes](2), Job[bytes](1)
    lane.add(first, [tokens(7), tokens(7)], 0.0)
    lane.add(second, [tokens(7)], 1.0)
    assert (lane.texts, lane.tokens) == (3, 7)
    (entry,) = lane.take(WIDE)
    assert entry.waiters == [(first, 0), (first, 1), (second, 0)]
    assert (lane.texts, lane.tokens) == (0, 0)


async def test_dropping_a_caller_keeps_the_texts_others_wait_for() -> None:
    lane: Lane[bytes] = Lane()
    gone, stays = Job[bytes](2), Job[bytes](1)
    lane.add(gone, [tokens(4), tokens(9)], 0.0)
    lane.add(stays, [tokens(9)], 1.0)
    assert lane.drop(gone) == 2
    (entry,) = lane.take(WIDE)
    assert entry.waiters == [(stays, 0)]
    assert lane.take(WIDE) == []


@settings(max_examples=60)
@given(
    jobs=st.lists(st.lists(st.tuples(st.integers(1, 64), st.integers(0, 3)), min_size=1, max_size=12), max_size=12),
    dropped=st.sets(st.integers(0, 11)),
    texts=st.integers(1, 9),
    budget=st.integers(8, 400),
)
async def test_every_kept_text_leaves_exactly_once_and_within_the_limits(
    jobs: list[list[tuple[int, int]]], dropped: set[int], texts: int, budget: int
) -> None:
    lane: Lane[bytes] = Lane()
    handles = [Job[bytes](len(items)) for items in jobs]
    for when, (job, items) in enumerate(zip(handles, jobs, strict=True)):
        lane.add(job, [tokens(length, mark) for length, mark in items], float(when))
    for index in dropped & set(range(len(jobs))):
        assert lane.drop(handles[index]) == len(jobs[index])
    seen: list[tuple[Job[bytes], int]] = []
    while batch := lane.take(BatchLimits(texts, budget)):
        assert len(batch) <= texts
        assert len(batch) == 1 or max(lengths(batch)) * len(batch) <= budget
        assert all(one <= other for one, other in pairwise(lengths(batch)))
        seen += [waiter for entry in batch for waiter in entry.waiters]
    expected = {
        (handles[job], place) for job, items in enumerate(jobs) if job not in dropped for place in range(len(items))
    }
    assert len(seen) == len(expected)
    assert set(seen) == expected
    assert (lane.texts, lane.tokens) == (0, 0)
