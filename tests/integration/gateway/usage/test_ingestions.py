"""Ingestions of files: reserved when they ask, settled and written down once, whichever gateway is there."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import CloisterError, Unavailable
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore, VaultError
from cloister_common.wire.ingestions import IngestionNote, Word
from cloister_gateway.limit_settings import LimitSettings, UsageSettings
from cloister_gateway.limits import Limits
from cloister_gateway.limits.granted import GrantedLimits
from cloister_gateway.limits.reservations import Reservations
from cloister_gateway.limits.rules import Bound
from cloister_gateway.usage import Kind, ingestions
from cloister_gateway.usage.ingestions import Ingestions
from cloister_gateway.usage.ledger import Ledger
from cloister_gateway.usage.queries import Query, UsageQueries
from cloister_gateway.usage.records import Row
from cloister_gateway.usage.standing_store import StandingStore
from cloister_gateway.usage.store import UsageStore
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

PER_DAY = Bound("project", "proj_1", "", "tokens", "day")


class Notes:
    """What a retriever keeps.

    Attributes:
        notes: By their ids.
        calls_left: How many more calls come through; None is any.
    """

    def __init__(self, *notes: IngestionNote) -> None:
        self.notes = {note.id: note for note in notes}
        self.calls_left: int | None = None

    async def ingestions(self) -> list[IngestionNote]:
        self._called()
        return list(self.notes.values())

    async def tell_ingestion(self, attachment_id: str, word: Word) -> None:
        self._called()
        changes = {"state": word.state, "message": word.message}
        self.notes[attachment_id] = self.notes[attachment_id].model_copy(update=changes)

    async def drop_ingestion(self, attachment_id: str) -> None:
        self._called()
        self.notes.pop(attachment_id, None)

    def end(self, attachment_id: str, tokens: int) -> None:
        changes = {"state": "ended", "tokens": tokens}
        self.notes[attachment_id] = self.notes[attachment_id].model_copy(update=changes)

    def _called(self) -> None:
        if self.calls_left == 0:
            raise Unavailable("The retriever is away.")
        if self.calls_left is not None:
            self.calls_left -= 1


class Gateway:
    """Of one gateway, what looks after ingestions."""

    def __init__(self, redis: Redis, keyring: Keyring, notes: Notes, **rule: Any) -> None:
        usage = UsageStore(redis, keyring, UsageSettings())
        settings = LimitSettings.model_validate({"rules": {"r": {"level": "project", **rule}} if rule else {}})
        announcements: Any = None
        self.limits = Limits(
            settings,
            Reservations(redis),
            lambda changed: GrantedLimits(redis, keyring, announcements, changed),
            keyring,
            running=lambda: self.ingestions.running,
            lost=Ledger(usage).note_lost,
        )
        self.queries = UsageQueries(usage)
        retriever = cast("RetrieverClient", notes)
        self.ingestions = Ingestions(retriever, self.limits, Ledger(usage), StandingStore(redis, usage))

    async def used(self) -> int:
        """Tokens that count for the project's day."""
        return await self.limits.used("proj_1", PER_DAY)

    async def written(self) -> tuple[int, int]:
        """Rows of ingestions, and their tokens."""
        now = int(time.time())
        kinds: tuple[Kind, ...] = ("ingestion",)
        query = Query(kinds, now - 86_400, now + 86_400, "1d", 3)
        buckets, _ = await self.queries.buckets(query, ["proj_1"])
        sums = [numbers for bucket in buckets for numbers in bucket.sums.values()]
        return sum(one[0] for one in sums), sum(one[1] for one in sums)


def note(name: str, tokens: int) -> IngestionNote:
    return IngestionNote(
        id=name,
        tenant="proj_1",
        key="key_1",
        user="ann",
        model="mini",
        begun=int(time.time()),
        state="asks",
        tokens=tokens,
    )


@pytest.fixture(autouse=True)
def _long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that are not over where the machine stands still: tests end them."""
    monkeypatch.setattr(ingestions, "_TURN_SECONDS", 600)


@pytest.fixture
def make(redis: Redis, tmp_path: Path) -> Callable[..., Gateway]:
    (tmp_path / "root").write_text("0123456789abcdef" * 4)
    keyring = Keyring("gateway", FileRootKey(tmp_path / "root"), MemoryKeyStore())
    return lambda notes, **rule: Gateway(redis, keyring, notes, **rule)


async def test_what_asks_is_reserved_and_what_ended_is_settled_with_what_it_was(make: Callable[..., Gateway]) -> None:
    notes = Notes(note("a", 300), note("b", 500))
    gateway = make(notes, per="day", tokens=1000)
    await gateway.ingestions.look()
    assert {one.state for one in notes.notes.values()} == {"runs"}
    assert await gateway.used() == 800
    assert dict(gateway.ingestions.running) == {"a": "proj_1", "b": "proj_1"}
    notes.end("a", 120)
    await gateway.ingestions.look()
    assert (await gateway.used(), await gateway.written()) == (620, (1, 120))
    assert list(notes.notes) == ["b"]


async def test_one_that_is_over_a_limit_is_told_and_one_that_fits_soon_waits(make: Callable[..., Gateway]) -> None:
    notes = Notes(note("large", 2000), note("fits", 700), note("soon", 700))
    gateway = make(notes, per="minute", tokens=1000)
    await gateway.ingestions.look()
    told = {name: one.state for name, one in notes.notes.items()}
    assert told == {"large": "refused", "fits": "runs", "soon": "waits"}
    assert "1000 tokens per minute" in notes.notes["large"].message
    notes.end("fits", 100)
    await gateway.ingestions.look()
    await gateway.ingestions.look()
    assert notes.notes["soon"].state == "runs"


async def test_nothing_is_left_of_one_that_embedded_nothing(make: Callable[..., Gateway]) -> None:
    notes = Notes(note("a", 300))
    gateway = make(notes, per="day", tokens=1000)
    await gateway.ingestions.look()
    notes.end("a", 0)
    await gateway.ingestions.look()
    assert (await gateway.used(), await gateway.written(), notes.notes) == (0, (0, 0), {})


async def test_one_gateway_looks_and_another_takes_over(make: Callable[..., Gateway], redis: Redis) -> None:
    notes = Notes(note("a", 300))
    first, second = make(notes, per="day", tokens=1000), make(notes, per="day", tokens=1000)
    await first.ingestions.look()
    await second.ingestions.look()
    assert dict(second.ingestions.running) == {}
    await _forget_turn(redis)
    await second.ingestions.look()
    assert dict(second.ingestions.running) == {"a": "proj_1"}
    await first.ingestions.look()
    assert dict(first.ingestions.running) == {}


async def test_it_is_written_down_once_wherever_a_gateway_is_cut_off(
    make: Callable[..., Gateway], redis: Redis
) -> None:
    for calls in range(3):
        await redis.flushall()
        notes = Notes(note("a", 300))
        dying, heir = make(notes, per="day", tokens=1000), make(notes, per="day", tokens=1000)

        async def looks(gateway: Gateway) -> bool:
            try:
                await gateway.ingestions.look()
            except CloisterError:
                return False
            return True

        await _cut(notes, calls, looks, dying)
        await _forget_turn(redis)
        assert await looks(heir)
        assert (notes.notes["a"].state, await heir.used()) == ("runs", 300)
        notes.end("a", 120)
        await _forget_turn(redis)
        await _cut(notes, calls, looks, dying)
        await _forget_turn(redis)
        assert await looks(heir)
        assert (await heir.used(), await heir.written(), notes.notes) == (120, (1, 120), {})


async def test_what_runs_keeps_its_lease_with_whichever_gateway_looks(
    make: Callable[..., Gateway], redis: Redis
) -> None:
    notes = Notes(note("a", 300))
    first, second = make(notes, per="day", tokens=1000), make(notes, per="day", tokens=1000)
    await first.ingestions.look()
    assert await Reservations(redis).renew("proj_1", ["a"]) == {"a"}
    await _forget_turn(redis)
    await second.ingestions.look()
    notes.end("a", 299)
    await second.ingestions.look()
    assert await Reservations(redis).renew("proj_1", ["a"]) == set()


async def test_what_one_gateway_could_not_reserve_is_not_taken_from_another_that_did(
    make: Callable[..., Gateway], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(note("a", 300))
    cut_off, heir = make(notes, per="day", tokens=1000), make(notes, per="day", tokens=1000)

    async def lost(*arguments: Any) -> None:
        raise RedisConnectionError

    with monkeypatch.context() as away:
        away.setattr(Reservations, "reserve", lost)
        with pytest.raises(Unavailable):
            await cut_off.ingestions.look()
    await _forget_turn(redis)
    await heir.ingestions.look()
    await cut_off.limits.flush()
    assert (notes.notes["a"].state, await heir.used()) == ("runs", 300)


async def test_one_that_cannot_be_written_down_keeps_no_other_from_it(
    make: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(note("a", 300), note("b", 300))
    gateway = make(notes, per="day", tokens=1000)
    await gateway.ingestions.look()
    notes.end("a", 100)
    notes.end("b", 200)
    add = UsageStore.add

    async def damaged(store: UsageStore, row: Row) -> None:
        if row.id == "a":
            raise VaultError
        await add(store, row)

    with monkeypatch.context() as for_now:
        for_now.setattr(UsageStore, "add", damaged)
        await gateway.ingestions.look()
    assert (list(notes.notes), await gateway.written()) == (["a"], (1, 200))
    await gateway.ingestions.look()
    assert (notes.notes, await gateway.written()) == ({}, (2, 300))


async def test_a_gateway_whose_turn_is_over_answers_no_more_of_what_it_has_read(
    make: Callable[..., Gateway], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestions, "_LOOK_SECONDS", 0.0)
    told: list[str] = []

    class Slow(Notes):
        """After its first word another gateway has the turn, and sees to all there is."""

        async def tell_ingestion(self, attachment_id: str, word: Word) -> None:
            await super().tell_ingestion(attachment_id, word)
            told.append(attachment_id)
            if len(told) == 1:
                await _forget_turn(redis)
                await heir.ingestions.look()
                self.end("b", 50)
                await heir.ingestions.look()

    notes = Slow(note("a", 300), note("b", 500))
    slow, heir = make(notes, per="day", tokens=1000), make(notes, per="day", tokens=1000)
    await slow.ingestions.look()
    assert told == ["a", "b"], "the second by the other"
    assert (list(notes.notes), await heir.used(), await heir.written()) == (["a"], 350, (1, 50))
    assert dict(slow.ingestions.running) == {}


async def _cut(notes: Notes, calls: int, looks: Callable[[Gateway], Awaitable[bool]], gateway: Gateway) -> None:
    """The gateway is away after so many of its calls."""
    notes.calls_left = calls
    await looks(gateway)
    notes.calls_left = None


async def _forget_turn(redis: Redis) -> None:
    """The gateway that looked is gone for longer than its turn."""
    async for key in redis.scan_iter("*:ingestions"):
        await redis.delete(key)
