"""Waiting texts, kept so that a batch of similar lengths around the oldest one is a slice.

Texts of one batch are padded to its longest, so similar lengths waste least. The list is sorted by length; the oldest
text is the anchor of the next batch, which therefore grows to both sides of it. So nobody starves, whatever its length.
"""

import asyncio
import bisect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from cloister_embedder.models.encoder import Tokens

__all__ = ["BatchLimits", "Entry", "Job", "Lane"]

R = TypeVar("R")

_FREE_PADDING_TOKENS = 256
"""Padding that costs about as much as another forward pass, so always accepted: on two cores MiniLM takes 0.05 to
0.1 ms for a token, and 8 ms for a pass of hardly any, which other batches wait for too."""
_PADDING_SHARE = 0.1
"""Above that, padding may be a tenth of the batch."""


class BatchLimits(NamedTuple):
    """What bounds one forward pass: texts, and tokens with padding."""

    texts: int
    tokens: int


class Job(Generic[R]):
    """One caller's texts and the place for their results."""

    def __init__(self, size: int) -> None:
        self.results: list[R | None] = [None] * size
        self.missing = size
        self.done: asyncio.Future[list[R]] = asyncio.get_running_loop().create_future()

    def put(self, index: int, result: R) -> None:
        """Takes one result; the last one completes the job."""
        self.results[index] = result
        self.missing -= 1
        if self.missing == 0 and not self.done.done():
            self.done.set_result([value for value in self.results if value is not None])

    def fail(self, error: Exception) -> None:
        """Ends the job with an error, once."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True, eq=False)
class Entry(Generic[R]):
    """One distinct text and everyone who waits for it."""

    tokens: Tokens
    number: int
    arrived: float
    waiters: list[tuple[Job[R], int]] = field(default_factory=list)
    gone: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.tokens.length, self.number


class Lane(Generic[R]):
    """The waiting texts of one model and one urgency. Used from the event loop only."""

    def __init__(self) -> None:
        self.texts = 0
        """Texts that wait, duplicates counted each."""
        self.tokens = 0
        """Tokens that wait to be computed, duplicates counted once."""
        self._by_tokens: dict[Tokens, Entry[R]] = {}
        self._by_length: list[Entry[R]] = []
        self._by_age: deque[Entry[R]] = deque()
        self._count = 0

    def add(self, job: Job[R], items: Sequence[Tokens], now: float) -> None:
        """Queues a job's texts. A text that is waiting already gets one more waiter and no second computation."""
        for index, tokens in enumerate(items):
            entry = self._by_tokens.get(tokens)
            if entry is None:
                self._count += 1
                entry = self._by_tokens[tokens] = Entry(tokens, self._count, now)
                self._by_length.append(entry)
                self._by_age.append(entry)
                self.tokens += tokens.length
            entry.waiters.append((job, index))
        self.texts += len(items)
        # One sort of two sorted runs is linear; inserting each text on its own would be quadratic.
        self._by_length.sort(key=_order)

    def drop(self, job: Job[R]) -> int:
        """Forgets a job whose caller is gone; says how many of its texts were still waiting."""
        dropped = 0
        for entry in self._by_length:
            kept = [waiter for waiter in entry.waiters if waiter[0] is not job]
            dropped += len(entry.waiters) - len(kept)
            entry.waiters = kept
            if not kept:
                self._forget(entry)
        self._by_length = [entry for entry in self._by_length if not entry.gone]
        self.texts -= dropped
        return dropped

    def take(self, limits: BatchLimits) -> list[Entry[R]]:
        """Removes and returns the next batch: the oldest text and its neighbours in length. Empty if none waits."""
        while self._by_age and self._by_age[0].gone:
            self._by_age.popleft()
        if not self._by_age:
            return []
        anchor = self._by_age[0]
        low = bisect.bisect_left(self._by_length, anchor.order, key=_order)
        low, high = self._grow(low, low + 1, anchor.tokens.length, limits)
        batch = self._by_length[low:high]
        del self._by_length[low:high]
        for entry in batch:
            self._forget(entry)
            self.texts -= len(entry.waiters)
        return batch

    def _grow(self, low: int, high: int, anchor: int, limits: BatchLimits) -> tuple[int, int]:
        """Widens [low, high) towards the nearer length on either side while the batch stays within its bounds."""
        entries = self._by_length
        real = anchor
        while high - low < limits.texts:
            below = anchor - entries[low - 1].tokens.length if low > 0 else None
            above = entries[high].tokens.length - anchor if high < len(entries) else None
            if below is None and above is None:
                break
            # Of two equally near ones the one above is the younger of the same length, or costs padding of its own.
            upwards = below is None or (above is not None and above <= below)
            candidate = entries[high if upwards else low - 1].tokens.length
            longest = max(entries[high - 1].tokens.length, candidate)
            padded = longest * (high - low + 1)
            waste = padded - real - candidate
            if padded > limits.tokens or waste > max(_FREE_PADDING_TOKENS, _PADDING_SHARE * padded):
                break
            real += candidate
            low, high = (low, high + 1) if upwards else (low - 1, high)
        return low, high

    def _forget(self, entry: Entry[R]) -> None:
        entry.gone = True
        self.tokens -= entry.tokens.length
        del self._by_tokens[entry.tokens]


def _order(entry: Entry[R]) -> tuple[int, int]:
    return entry.order
