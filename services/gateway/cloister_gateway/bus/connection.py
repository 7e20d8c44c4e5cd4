"""A pub/sub connection to Redis: dynamic channels in, callbacks out. One Redis needs one, a cluster one for each master
(`cloister_gateway.bus.sharded`).

Pub/sub loses messages whenever the connection is lost. So the bus never hides a reconnect: after every one it calls
each subscriber's ``on_resync`` once Redis has confirmed the subscription, and the subscriber reads the state it watches
anew: what changed before the confirmation is in that state, what changes after it is heard. A connection that is
silent, as half-open ones are, is found by a ping each second and replaced.

Messages say that something changed, never what: payloads carry ids and positions only.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor
from prometheus_client import Counter, Gauge
from redis.asyncio import Connection, Redis
from redis.exceptions import MovedError, RedisError

from cloister_gateway.storage.client import REDIS_DOWN
from cloister_gateway.storage.slots import slot_of

__all__ = ["Bus", "Subscription", "TurnedAway"]

log = get_logger(__name__)
_MESSAGES = Counter("cloister_bus_messages_total", "Pub/sub messages received.")
_CONNECTED = Gauge(
    "cloister_bus_connected", "Pub/sub connections that stand: one, or in a cluster one for each master in use."
)

CONFIRM_SECONDS = 2.0
_PING_SECONDS = 1.0
_SILENCE_SECONDS = 3.0
_RECONNECT_SECONDS = 0.1
_RECONNECT_LONGEST_SECONDS = 2.0


@dataclass(eq=False, slots=True)
class Subscription:
    """One subscriber of one channel; give it to `Bus.unsubscribe`."""

    channel: str
    callback: Callable[[bytes], None]
    on_resync: Callable[[], None] | None


class TurnedAway(Exception):
    """The channel is not this node's (any more): its slot is another's."""


@dataclass(eq=False, slots=True)
class _Channel:
    subscriptions: list[Subscription] = field(default_factory=list)
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    turned_away: bool = False


class Bus:
    """Subscribes and publishes. Callbacks run in the reader, in order: they must be quick and must not wait.

    Args:
        connect: Makes the pub/sub connection object (not yet connected).
        redis: The command client, for publishing.
        supervisor: Runs the reader.
        on_turned_away: Called where channels turn out to be another node's. With it, they are those of a cluster's
            shard (``SSUBSCRIBE``).
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        redis: Redis,
        supervisor: Supervisor,
        on_turned_away: Callable[[], None] | None = None,
    ) -> None:
        self._connect = connect
        self._redis = redis
        self._supervisor = supervisor
        self.sharded = on_turned_away is not None
        self._on_turned_away = on_turned_away
        self._verb = "SSUBSCRIBE" if self.sharded else "SUBSCRIBE"
        self._channels: dict[str, _Channel] = {}
        self._reading: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._sending = asyncio.Lock()
        self._sessions = 0
        # SUBSCRIBEs sent and not yet answered: an answer to an earlier one must not confirm a later one.
        self._unanswered: dict[str, int] = {}
        # Channels whose messages may have been lost and whose subscription is not confirmed again yet.
        self._missed: set[str] = set()

    def start(self) -> None:
        """Begins to connect and to read; ends with the supervisor, or with `stop`."""
        self._reading = self._supervisor.spawn("bus", self._run())

    def stop(self) -> None:
        """Closes the connection."""
        if self._reading is not None:
            self._reading.cancel()

    def is_turned_away(self, channel: str) -> bool:
        """Whether the node has said that the channel is not its own any more."""
        entry = self._channels.get(channel)
        return entry is not None and entry.turned_away

    @property
    def connected(self) -> bool:
        """Whether messages arrive now. While they do not, nothing learned from the bus is current."""
        return self._connection is not None

    @property
    def subscribed(self) -> Mapping[str, int]:
        """How many subscribers each channel has that any has."""
        return {name: len(channel.subscriptions) for name, channel in self._channels.items()}

    async def publish(self, channel: str, payload: bytes) -> None:
        """Sends ``payload`` to every gateway that subscribed to ``channel``."""
        await self._redis.publish(channel, payload)

    async def subscribe(
        self,
        channel: str,
        callback: Callable[[bytes], None],
        on_resync: Callable[[], None] | None = None,
        *,
        confirm_seconds: float = CONFIRM_SECONDS,
    ) -> Subscription:
        """Calls ``callback`` with every message of ``channel`` published after this returned.

        Args:
            channel: Its name.
            callback: Gets each payload; called in the reader, so it must not block.
            on_resync: Called after every reconnect, since messages may have been lost.
            confirm_seconds: Longest wait for Redis to confirm.

        Raises:
            Unavailable: Redis did not confirm in time.
            TurnedAway: The channel is another node's.
        """
        subscription = Subscription(channel, callback, on_resync)
        entry = self._channels.get(channel)
        if entry is None:
            entry = self._channels[channel] = _Channel()
            entry.subscriptions.append(subscription)
            await self._send(self._verb, channel)
        else:
            entry.subscriptions.append(subscription)
        try:
            async with asyncio.timeout(confirm_seconds):
                await entry.confirmed.wait()
        except TimeoutError as error:
            await self.unsubscribe(subscription)
            raise Unavailable("The state store does not answer. Try again.", retry_after=2) from error
        except asyncio.CancelledError:
            await self.unsubscribe(subscription)
            raise
        if entry.turned_away:
            await self.unsubscribe(subscription)
            raise TurnedAway
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription; doing it twice is no error."""
        entry = self._channels.get(subscription.channel)
        if entry is None or subscription not in entry.subscriptions:
            return
        entry.subscriptions.remove(subscription)
        if not entry.subscriptions:
            del self._channels[subscription.channel]
            await self._send(self._verb.replace("SUB", "UNSUB"), subscription.channel)

    async def _send(self, command: str, channel: str) -> None:
        """Sends on the standing connection. Without one there is nothing to do: `_session` subscribes to all anew."""
        async with self._sending:
            connection = self._connection
            # Both commands may be waiting for the lock: the later state of the channel decides which still holds.
            if connection is None or (command == self._verb) != (channel in self._channels):
                return
            if command == self._verb:
                self._unanswered[channel] = self._unanswered.get(channel, 0) + 1
            try:
                await connection.send_command(command, channel)
            except (RedisError, OSError):
                # The reader finds the same fault and reconnects. Sending again here would make redis-py reconnect
                # on its own, unseen.
                self._lost(connection)

    async def _run(self) -> None:
        pause = _RECONNECT_SECONDS
        while True:
            began = asyncio.get_running_loop().time()
            connection = self._connect()
            try:
                await self._session(connection)
            except (*REDIS_DOWN, RedisError, TimeoutError) as error:
                log.warning("bus_disconnected", error=type(error).__name__)
            finally:
                self._lost(connection)
                await connection.disconnect(nowait=True)
            if asyncio.get_running_loop().time() - began > _SILENCE_SECONDS:
                pause = _RECONNECT_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RECONNECT_LONGEST_SECONDS)

    async def _session(self, connection: Connection) -> None:
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        async with self._sending:
            self._unanswered = dict.fromkeys(self._channels, 1)
            self._missed = set(self._channels) if self._sessions else set()
            if self.sharded:
                # One by one: each lies in a slot of its own.
                for channel in self._channels:
                    await connection.send_command(self._verb, channel)
            elif self._channels:
                await connection.send_command(self._verb, *self._channels)
            self._connection = connection
        _CONNECTED.inc()
        self._sessions += 1
        if self._sessions > 1:
            log.info("bus_reconnected")
        pinging = self._supervisor.spawn("bus-ping", self._ping(connection))
        try:
            while True:
                # Not `wait_for`: in Python 3.11 it swallows a cancellation that meets a reply, and the end never comes.
                async with asyncio.timeout(_SILENCE_SECONDS):
                    try:
                        reply = await connection.read_response()
                    except MovedError as error:
                        self._turn_away(error.slot_id)
                        continue
                if isinstance(reply, list) and len(reply) == 3:
                    self._dispatch(reply)
        finally:
            pinging.cancel()

    async def _ping(self, connection: Connection) -> None:
        while self._connection is connection:
            async with self._sending:
                if self._connection is not connection:
                    return
                try:
                    await connection.send_command("PING")
                except (RedisError, OSError):
                    self._lost(connection)
            await asyncio.sleep(_PING_SECONDS)

    def _dispatch(self, reply: list[bytes]) -> None:
        kind, name, payload = reply
        channel = name.decode()
        entry = self._channels.get(channel)
        if kind.endswith(b"unsubscribe"):
            # Unasked, where a slot has left the node. (Asked for, there is no entry, or a later one that waits.)
            if entry is not None and channel not in self._unanswered and self._on_turned_away is not None:
                entry.turned_away = True
                self._on_turned_away()
        elif kind.endswith(b"subscribe"):
            left = self._unanswered.pop(channel, 1) - 1
            if left:
                self._unanswered[channel] = left
            elif entry is not None:
                entry.confirmed.set()
                if channel in self._missed:
                    self._missed.discard(channel)
                    self._resync(entry)
        elif kind.endswith(b"message") and entry is not None:
            _MESSAGES.inc()
            self._tell(entry, payload)

    def _tell(self, entry: _Channel, payload: bytes) -> None:
        for subscription in list(entry.subscriptions):
            try:
                subscription.callback(payload)
            except Exception:
                log.exception("bus_callback_failed", channel_kind=subscription.channel.split(":", 1)[0])

    def _turn_away(self, slot: int) -> None:
        """A subscription was refused. The answer says the slot, not the channel."""
        for channel in [channel for channel in self._unanswered if slot_of(channel) == slot]:
            del self._unanswered[channel]
            if (entry := self._channels.get(channel)) is not None:
                entry.turned_away = True
                entry.confirmed.set()
        if self._on_turned_away is not None:
            self._on_turned_away()

    def _resync(self, entry: _Channel) -> None:
        for subscription in list(entry.subscriptions):
            if subscription.on_resync is None:
                continue
            try:
                subscription.on_resync()
            except Exception:
                log.exception("bus_resync_failed", channel_kind=subscription.channel.split(":", 1)[0])

    def _lost(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            _CONNECTED.dec()
            for entry in self._channels.values():
                entry.confirmed.clear()
