"""What a credential's end does to what is being done for it."""

import asyncio
import time
from collections.abc import Callable

import pytest
from cloister_common.errors import Unauthenticated
from cloister_gateway.identity.validity import Validity

SECONDS = 10.0


class Watches:
    """Stands for the authenticator."""

    def __init__(self) -> None:
        self.ended: list[Callable[[], None]] = []

    def add(self, ended: Callable[[], None]) -> Callable[[], None]:
        self.ended.append(ended)
        return lambda: self.ended.clear()

    def revoke(self) -> None:
        for ended in list(self.ended):
            ended()


async def test_a_revocation_interrupts_where_the_block_waits_and_lets_it_clean_up() -> None:
    watches, cleaned = Watches(), asyncio.Event()

    async def served() -> None:
        async with asyncio.timeout(SECONDS), Validity(None, watches.add):
            asyncio.get_running_loop().call_soon(watches.revoke)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.set()

    with pytest.raises(Unauthenticated) as refused:
        await served()
    assert cleaned.is_set()
    assert refused.value.error_code == "invalid_api_key"
    assert not watches.ended


async def test_a_key_that_expires_interrupts_too() -> None:
    with pytest.raises(Unauthenticated) as refused:
        async with asyncio.timeout(SECONDS), Validity(int(time.time()), Watches().add):
            await asyncio.Event().wait()
    assert refused.value.error_code == "expired_api_key"


async def test_a_key_has_expired_when_its_time_is_over_whatever_the_clock_says_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beginning = time.time()
    # The clock is set back while the request is served, or is a microsecond behind the loop's.
    monkeypatch.setattr(time, "time", lambda: beginning)
    with pytest.raises(Unauthenticated) as refused:
        async with asyncio.timeout(SECONDS), Validity(int(beginning) + 1, Watches().add):
            await asyncio.Event().wait()
    assert refused.value.error_code == "expired_api_key"


async def test_what_is_let_end_is_done_whole() -> None:
    watches = Watches()
    async with asyncio.timeout(SECONDS), Validity(int(time.time()) + 1000, watches.add) as validity:
        validity.let_end()
        watches.revoke()
        await asyncio.sleep(0)
    assert not watches.ended


async def test_what_was_interrupted_already_is_not_let_end() -> None:
    watches = Watches()

    async def served() -> None:
        async with asyncio.timeout(SECONDS), Validity(None, watches.add) as validity:
            watches.revoke()
            try:
                await asyncio.Event().wait()
            finally:
                validity.let_end()

    with pytest.raises(Unauthenticated):
        await served()


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def served() -> None:
        async with Validity(None, Watches().add):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(served())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
