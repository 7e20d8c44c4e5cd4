"""What failed rests, ever longer, and begins anew when it has worked."""

import pytest
from cloister_gateway.runs import attempts
from cloister_gateway.runs.attempts import Attempts


class Clock:
    """The time, as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_each_failure_in_a_row_doubles_the_rest_up_to_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(attempts, "time", clock)
    tries = Attempts()
    rests = []
    for _ in range(10):
        assert tries.may("a")
        tries.failed("a")
        assert not tries.may("a")
        assert tries.may("b"), "another conversation does not wait"
        since = clock.now
        while not tries.may("a"):
            clock.now += 15
        rests.append(clock.now - since)
    assert rests == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


async def test_a_success_forgets_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(attempts, "time", clock)
    tries = Attempts()
    tries.failed("a")
    tries.failed("a")
    tries.succeeded("a")
    assert tries.may("a")
    tries.failed("a")
    clock.now += 30
    assert tries.may("a")
