"""One run handed to many: encoded once, in order, from any place, and slow readers in nobody's way."""

import asyncio
from typing import Any

import pytest
from cloister_common.vault import DataKey
from cloister_gateway.storage import RESPONSE, KeyedObject
from cloister_gateway.streams.fanout import Batch, Follower
from cloister_gateway.streams.feeds import Feed

from tests.support.waiting import until


class Reader:
    """Takes as many batches as it is told."""

    def __init__(self, room: int = 1_000_000) -> None:
        self._room = room
        self.has_room = room > 0
        self.batches: list[Batch] = []
        self.followers: list[Follower] = []

    def take(self, batch: Batch, way: Any) -> None:
        self._room -= 1
        self.has_room = self._room > 0
        self.batches.append(batch)

    @property
    def events(self) -> list[bytes]:
        return [event for batch in self.batches for event in batch.events]

    def follow(self, feed: Feed, after: int = -1) -> asyncio.Task[None]:
        follower = Follower(self, after=after)
        self.followers.append(follower)
        return asyncio.create_task(feed.hand_on(follower))

    def make_room(self, room: int) -> None:
        self._room, self.has_room = room, True
        for follower in self.followers:
            follower.go_on()


@pytest.fixture
def feed() -> Feed:
    return Feed(KeyedObject(RESPONSE, "resp_1", DataKey(bytes(32), tenant="proj_a")))


def events(first: int, count: int, size: int = 10) -> list[bytes]:
    return [b"%d" % number + b" " * size for number in range(first, first + count)]


async def test_all_at_one_place_are_handed_the_same_batch(feed: Feed) -> None:
    readers = [Reader() for _ in range(300)]  # more than a slice
    ends = [reader.follow(feed) for reader in readers]
    await asyncio.sleep(0)
    feed.extend(0, events(0, 3), final=False)
    feed.extend(3, events(3, 2), final=False)
    await until(lambda: all(reader.events for reader in readers), what="the first events")
    assert {len(reader.batches) for reader in readers} == {1}
    assert len({id(reader.batches[0]) for reader in readers}) == 1
    feed.extend(5, events(5, 1), final=True)
    await asyncio.gather(*ends)
    assert all(reader.events == events(0, 6) for reader in readers)


async def test_events_that_come_between_two_slices_reach_everyone_once(feed: Feed) -> None:
    readers = [Reader() for _ in range(300)]
    ends = [reader.follow(feed) for reader in readers]
    await asyncio.sleep(0)
    feed.extend(0, events(0, 1), final=False)
    while not readers[0].events:
        await asyncio.sleep(0)
    assert not readers[-1].events
    feed.extend(1, events(1, 1), final=False)
    await asyncio.sleep(0)
    feed.extend(2, events(2, 1), final=True)
    await asyncio.gather(*ends)
    assert all(reader.events == events(0, 3) for reader in readers)


@pytest.mark.parametrize("after", [-1, 0, 2, 3])
async def test_who_comes_later_begins_in_the_middle_of_what_was_joined(feed: Feed, after: int) -> None:
    feed.extend(0, events(0, 4), final=False)
    reader = Reader()
    end = reader.follow(feed, after)
    await asyncio.sleep(0)
    assert reader.events == events(0, 4)[after + 1 :]
    feed.extend(4, events(4, 2), final=True)
    await end
    assert reader.events == events(0, 6)[after + 1 :]


async def test_a_reader_without_room_is_left_and_goes_on_from_there(feed: Feed) -> None:
    slow, quick = Reader(room=1), Reader()
    ends = [slow.follow(feed), quick.follow(feed)]
    await asyncio.sleep(0)
    for number in range(0, 2000, 100):
        feed.extend(number, events(number, 100, size=1000), final=number == 1900)
        while len(quick.events) < number + 100:
            await asyncio.sleep(0)
    await ends[1]
    assert slow.events == events(0, 100, size=1000)[: len(slow.events)]
    assert slow.followers[0].behind
    assert not ends[0].done()
    while not ends[0].done():
        slow.make_room(1)
        # No more at once than a reader can be expected to have room for.
        assert sum(map(len, slow.batches[-1].events)) <= 64 * 1024
        await asyncio.sleep(0)
    assert slow.events == quick.events == events(0, 2000, size=1000)


async def test_an_event_larger_than_a_batch_is_handed_over_alone(feed: Feed) -> None:
    reader = Reader()
    feed.extend(0, [b"a", b"b" * 200_000, b"c"], final=True)
    await reader.follow(feed)
    assert [len(batch.events) for batch in reader.batches] == [1, 1, 1]


async def test_a_feed_that_fails_is_told_after_what_there_was(feed: Feed) -> None:
    slow, quick = Reader(room=0), Reader()
    ends = [slow.follow(feed), quick.follow(feed)]
    await asyncio.sleep(0)
    feed.extend(0, events(0, 2), final=False)
    feed.fail(LookupError("gone"))
    with pytest.raises(LookupError):
        await ends[1]
    assert quick.events == events(0, 2)
    assert not ends[0].done()
    slow.make_room(5)
    with pytest.raises(LookupError):
        await ends[0]
    assert slow.events == events(0, 2)


async def test_a_reader_that_breaks_is_told_and_the_others_are_served(feed: Feed) -> None:
    class Broken(Reader):
        def take(self, batch: Batch, way: Any) -> None:
            raise LookupError

    ends = [Broken().follow(feed), (reader := Reader()).follow(feed)]
    await asyncio.sleep(0)
    feed.extend(0, events(0, 2), final=True)
    await ends[1]
    assert reader.events == events(0, 2)
    with pytest.raises(LookupError):
        await ends[0]


async def test_who_leaves_in_the_middle_of_a_round_is_handed_nothing_more(feed: Feed) -> None:
    readers = [Reader() for _ in range(300)]
    ends = [reader.follow(feed) for reader in readers]
    await asyncio.sleep(0)
    feed.extend(0, events(0, 1), final=False)
    while not readers[0].events:
        await asyncio.sleep(0)
    ends[-1].cancel()
    feed.extend(1, events(1, 1), final=True)
    await asyncio.gather(*ends[:-1])
    assert len(readers[-1].events) <= 1
    assert all(reader.events == events(0, 2) for reader in readers[:-1])


async def test_with_many_followers_later_events_are_joined_but_not_the_first_nor_the_last(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("_PAUSE_EACH_SECONDS", "_LONGEST_PAUSE_SECONDS"):  # longer than any machine stands still
        monkeypatch.setattr(f"cloister_gateway.streams.fanout.{pause}", 3600.0)
    readers = [Reader() for _ in range(400)]
    ends = [reader.follow(feed) for reader in readers]
    await asyncio.sleep(0)
    feed.extend(0, events(0, 1), final=False)
    await until(lambda: readers[-1].events, what="the first event")
    for number in range(1, 6):
        feed.extend(number, events(number, 1), final=False)
        await asyncio.sleep(0)
    assert {len(reader.batches) for reader in readers} == {1}
    feed.extend(6, events(6, 1), final=True)
    await asyncio.gather(*ends)
    assert all(reader.events == events(0, 7) for reader in readers)
    assert {len(reader.batches) for reader in readers} == {2}


async def test_what_is_held_back_goes_out_in_a_moment_though_nothing_comes_after_it(feed: Feed) -> None:
    readers = [Reader() for _ in range(400)]
    ends = [reader.follow(feed) for reader in readers]
    await asyncio.sleep(0)
    feed.extend(0, events(0, 1), final=False)
    await until(lambda: readers[-1].events, what="the first event")
    feed.extend(1, events(1, 1), final=False)
    await until(lambda: len(readers[-1].events) == 2, what="the one after it")
    feed.extend(2, events(2, 1), final=True)
    await asyncio.gather(*ends)
