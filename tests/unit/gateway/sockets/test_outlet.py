"""What goes out on one socket while its client reads, and while it does not."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from cloister_common.doors.frames import text_frames
from cloister_common.vault import DataKey
from cloister_gateway.sockets.outlet import Outlet
from cloister_gateway.storage import RESPONSE, KeyedObject
from cloister_gateway.streams.feeds import Feed

from tests.support.waiting import until


class Writer:
    """Stands for the socket; has room for so many writes."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.gone = False
        self.writes: list[bytes] = []
        self.on_room: Callable[[], None] | None = None

    def write(self, frames: bytes) -> bool:
        self.room -= 1
        self.writes.append(frames)
        return self.room > 0

    def make_room(self, room: int) -> None:
        self.room = room
        assert self.on_room is not None
        self.on_room()


class Client:
    """A socket and its way out."""

    def __init__(self, room: int = 1_000_000, patience: float = 60) -> None:
        self.writer = Writer(room)
        self.given_up = 0
        self.outlet = Outlet(self.writer, patience=patience, give_up=self._give_up)

    def _give_up(self) -> None:
        self.given_up += 1
        self.outlet.close()

    def follow(self, feed: Feed, stream_id: str | None = None) -> asyncio.Task[None]:
        async def follow() -> None:
            with self.outlet.follower(stream_id, after=-1) as follower:
                await feed.hand_on(follower)

        return asyncio.create_task(follow())


@pytest.fixture
def feed() -> Feed:
    return Feed(KeyedObject(RESPONSE, "resp_1", DataKey(bytes(32), tenant="proj_a")))


def events(first: int, count: int, size: int = 1) -> list[bytes]:
    return [orjson.dumps({"type": "t", "n": n, "x": "x" * size}) for n in range(first, first + count)]


async def test_watchers_of_one_lane_send_the_same_bytes_and_lanes_name_themselves(feed: Feed) -> None:
    clients = [Client() for _ in range(6)]
    lanes = [None, None, "a", "a", "b", None]
    ends = [client.follow(feed, lane) for client, lane in zip(clients, lanes, strict=True)]
    await asyncio.sleep(0)
    feed.extend(0, events(0, 3), final=True)
    await asyncio.gather(*ends)
    for client, lane in zip(clients, lanes, strict=True):
        named: Any = {} if lane is None else {"stream_id": lane}
        expected = [orjson.dumps({**orjson.loads(event), **named}) for event in events(0, 3)]
        assert client.writer.writes == [text_frames(expected)]
    assert len({id(client.writer.writes[0]) for client in clients}) == 3


async def test_one_slow_reader_among_five_hundred_ends_and_the_others_get_all(feed: Feed) -> None:
    slow, others = Client(room=2, patience=0.2), [Client() for _ in range(499)]
    ends = [client.follow(feed) for client in (slow, *others)]
    await asyncio.sleep(0)
    for number in range(0, 300, 10):
        feed.extend(number, events(number, 10, size=1000), final=number == 290)
        await asyncio.sleep(0)
    await asyncio.gather(*ends[1:])
    everything = text_frames(events(0, 300, size=1000))
    assert all(b"".join(client.writer.writes) == everything for client in others)
    await until(lambda: slow.given_up, what="the end of patience")
    assert slow.given_up == 1
    assert len(slow.writer.writes) == 2  # Nothing was held for it.
    ends[0].cancel()


async def test_who_has_taken_all_there_is_may_take_its_time(feed: Feed) -> None:
    client = Client(room=1, patience=0.04)
    end = client.follow(feed)
    feed.extend(0, events(0, 1), final=False)
    await until(lambda: client.writer.writes, what="the last it has room for")
    await asyncio.sleep(0.2)  # what would be too long if anything waited
    assert not client.given_up
    feed.extend(1, events(1, 1), final=True)
    await until(lambda: client.given_up, what="the end of patience")
    end.cancel()


async def test_an_answer_waits_for_room_and_each_lane_has_its_turn() -> None:
    client = Client(room=1)
    feeds = [Feed(KeyedObject(RESPONSE, f"resp_{n}", DataKey(bytes(32), tenant="proj_a"))) for n in range(2)]
    for number, feed in enumerate(feeds):
        feed.extend(0, [b'{"feed":%d,"x":"%s"}' % (number, b"x" * 60_000)] * 3, final=True)
    ends = [client.follow(feed) for feed in feeds]
    answer = asyncio.create_task(client.outlet.send(b'{"type":"error"}', "a"))
    while not all(end.done() for end in (*ends, answer)):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        client.writer.make_room(1)
    sent = [orjson.loads(frames[frames.index(b"{") :]) for frames in client.writer.writes]
    assert sent[1] == {"type": "error", "stream_id": "a"}
    order = [event["feed"] for event in sent if "feed" in event]
    assert sorted(order[1:3]) == sorted(order[3:5]) == [0, 1]


async def test_when_the_client_has_gone_no_answer_waits_for_it() -> None:
    client = Client(room=1)
    await client.outlet.send(b"{}", None)
    answers = [asyncio.create_task(client.outlet.send(b"{}", None)) for _ in range(3)]
    await asyncio.sleep(0)
    client.writer.gone = True
    client.writer.make_room(0)
    async with asyncio.timeout(30):
        await asyncio.gather(*answers, client.outlet.send(b"{}", None))
    client.outlet.close()
