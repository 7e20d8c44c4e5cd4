"""The bus of a Redis Cluster: each channel at the master that has its slot, over one connection for each.

A channel goes where its slot goes. Between the moment when a slot leaves a node and the confirmation by the next one,
messages may be lost, as they may be with a connection; so a channel that was moved is resynchronised like one that was
reconnected.

Not redis-py's pub/sub of a cluster, which connects and subscribes again on its own, unseen: what was missed meanwhile
would never be read.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from cloister_common.errors import Unavailable
from cloister_common.supervisor import Supervisor
from redis.asyncio import Connection, Redis

from cloister_gateway.bus.connection import Bus, Subscription, TurnedAway
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage.client import REDIS_DOWN, bus_connection
from cloister_gateway.storage.cluster import Address, ClusterClient

__all__ = ["ShardedBus", "make_bus"]

_LOOK_SECONDS = 1.0
"""How often the places of channels are compared with the map, in case nobody was told that a slot moved."""
_RETRY_SECONDS = 0.1


def make_bus(settings: RedisSettings, redis: Redis, supervisor: Supervisor) -> Bus:
    """The bus over the Redis that ``redis`` is a client of; not yet started."""
    if isinstance(redis, ClusterClient):
        return ShardedBus(partial(bus_connection, settings), redis, supervisor)
    return Bus(lambda: bus_connection(settings), redis, supervisor)


@dataclass(eq=False, slots=True)
class _Place:
    """Where a channel is listened to: nowhere yet, or at a node, over its link."""

    link: Bus | None = None
    subscription: Subscription | None = None
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)


class ShardedBus(Bus):
    """Subscribes and publishes in a cluster.

    Args:
        connect: Makes the pub/sub connection object (not yet connected) to a node.
        cluster: The command client, for publishing, and for where slots are.
        supervisor: Runs the readers.
    """

    def __init__(
        self, connect: Callable[[Address], Connection], cluster: ClusterClient, supervisor: Supervisor
    ) -> None:
        self._wrong = asyncio.Event()
        super().__init__(_no_connection, cluster, supervisor, self._wrong.set)
        self._connect_to = connect
        self._cluster = cluster
        self._links: dict[Address, Bus] = {}
        self._places: dict[str, _Place] = {}

    def start(self) -> None:
        """Begins to keep channels where they belong; ends with the supervisor."""
        self._supervisor.loop("bus-places", self._keep_places)

    @property
    def connected(self) -> bool:
        """Whether messages of all channels arrive now."""
        return bool(self._links) and all(link.connected for link in self._links.values())

    async def _send(self, command: str, channel: str) -> None:
        """Does what a channel's first subscriber, or the leaving of its last, asks for."""
        await self._place(channel)

    async def _place(self, channel: str) -> None:
        """Listens to the channel where it belongs, and nowhere else. What cannot be done now is tried again later."""
        place = self._places.setdefault(channel, _Place())
        async with place.changing:
            entry = self._channels.get(channel)
            if entry is None:
                await self._leave(place)
                if channel not in self._channels and self._places.get(channel) is place:
                    del self._places[channel]
                return
            try:
                link = self._link(await self._cluster.address_of(channel))
                if link is not place.link or link.is_turned_away(channel):
                    moved = place.link is not None
                    hear, resync = partial(self._hear, channel), partial(self._missed_some, channel)
                    if link is place.link:
                        await self._leave(place)
                    subscription = await link.subscribe(channel, hear, resync)
                    await self._leave(place)
                    place.link, place.subscription = link, subscription
                    if moved:
                        self._resync(entry)
                entry.confirmed.set()
            except (*REDIS_DOWN, Unavailable, TurnedAway):
                self._cluster.doubt()
                self._wrong.set()

    async def _leave(self, place: _Place) -> None:
        link, subscription, place.subscription = place.link, place.subscription, None
        if link is not None and subscription is not None:
            await link.unsubscribe(subscription)

    def _link(self, address: Address) -> Bus:
        link = self._links.get(address)
        if link is None:
            connect = partial(self._connect_to, address)
            link = self._links[address] = Bus(connect, self._redis, self._supervisor, self._turned_away)
            link.start()
        return link

    def _turned_away(self) -> None:
        self._cluster.doubt()
        self._wrong.set()

    def _hear(self, channel: str, payload: bytes) -> None:
        if (entry := self._channels.get(channel)) is not None:
            self._tell(entry, payload)

    def _missed_some(self, channel: str) -> None:
        if (entry := self._channels.get(channel)) is not None:
            self._resync(entry)

    async def _keep_places(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wrong.wait()
            self._wrong.clear()
            if not self.connected:
                # A master that died leaves its slots to another, which the map says and no one here is told.
                self._cluster.doubt()
            await asyncio.gather(*(self._place(channel) for channel in await self._misplaced()))
            for address, link in list(self._links.items()):
                if not link.subscribed:
                    link.stop()
                    del self._links[address]
            await asyncio.sleep(_RETRY_SECONDS)

    async def _misplaced(self) -> list[str]:
        wrong = [channel for channel in self._places if channel not in self._channels]
        # Where the cluster cannot say now, the next look asks again.
        with suppress(*REDIS_DOWN):
            for channel in self._channels:
                link = self._links.get(await self._cluster.address_of(channel))
                place = self._places.get(channel)
                if link is None or place is None or place.link is not link or link.is_turned_away(channel):
                    wrong.append(channel)
        return wrong


def _no_connection() -> Connection:
    raise AssertionError("a bus of links connects nowhere itself")
