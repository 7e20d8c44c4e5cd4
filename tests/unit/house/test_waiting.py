"""How tests wait: a machine that stands still takes nothing away from a deadline, and nobody waits for ever."""

import time

import pytest

from tests.support.waiting import Patience


def rounds(monkeypatch: pytest.MonkeyPatch, seconds: float, *ends: float) -> list[bool]:
    """Whether a deadline of so many seconds is over, after each of the rounds that end at these times."""
    clock = iter([0.0, *ends])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    patience = Patience(seconds, every=0.02)
    found = []
    for _ in ends:
        patience.round_ends()
        found.append(patience.over())
    return found


def test_quick_rounds_count_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds(monkeypatch, 2, 0.5, 1.0, 1.5, 2.0) == [False, False, False, True]


def test_a_stall_counts_as_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds(monkeypatch, 2, 2.0, 2.5, 3.0, 3.5) == [False, False, False, True]


def test_slow_questions_come_to_an_end_at_four_times_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds(monkeypatch, 10, 20.0, 39.0, 41.0) == [False, False, True]


def test_rests_are_short_at_first_and_longer_where_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.1, 1.0, 9.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    patience = Patience(30, every=0.02)
    assert [patience.rest for _ in range(3)] == pytest.approx([0.02, 0.05, 0.1])
