"""The gateway's one pub/sub connection to Redis: dynamic channels in, callbacks out.

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
from redis.exceptions import RedisError

from cloister_gateway.storage.client import REDIS_DOWN

__all__ = ["Bus", "Subscription"]

log = get_logger(__name__)
_MESSAGES = Counter("cloister_bus_messages_total", "Pub/sub messages received.")
_CONNECTED = Gauge("cloister_bus_connected", "Whether the pub/sub connection stands.")

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


@dataclass(eq=False, slots=True)
class _Channel:
    subscriptions: list[Subscription] = field(default_factory=list)
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)


class Bus:
    """Subscribes and publishes. Callbacks run in the reader, in order: they must be quick and must not wait.

    Args:
        connect: Makes the pub/sub connection object (not yet connected).
        redis: The command client, for publishing.
        supervisor: Runs the reader.
    """

    def __init__(self, connect: Callable[[], Connection], redis: Redis, supervisor: Supervisor) -> None:
        self._connect = connect
        self._redis = redis
        self._supervisor = supervisor
        self._channels: dict[str, _Channel] = {}
        self._connection: Connection | None = None
        self._sending = asyncio.Lock()
        self._sessions = 0
        # SUBSCRIBEs sent and not yet answered: an answer to an earlier one must not confirm a later one.
        self._unanswered: dict[str, int] = {}
        # Channels whose messages may have been lost and whose subscription is not confirmed again yet.
        self._missed: set[str] = set()

    def start(self) -> None:
        """Begins to connect and to read; ends with the supervisor."""
        self._supervisor.spawn("bus", self._run())

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
        """
        subscription = Subscription(channel, callback, on_resync)
        entry = self._channels.get(channel)
        if entry is None:
            entry = self._channels[channel] = _Channel()
            entry.subscriptions.append(subscription)
            await self._send("SUBSCRIBE", channel)
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
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription; doing it twice is no error."""
        entry = self._channels.get(subscription.channel)
        if entry is None or subscription not in entry.subscriptions:
            return
        entry.subscriptions.remove(subscription)
        if not entry.subscriptions:
            del self._channels[subscription.channel]
            await self._send("UNSUBSCRIBE", subscription.channel)

    async def _send(self, command: str, channel: str) -> None:
        """Sends on the standing connection. Without one there is nothing to do: `_session` subscribes to all anew."""
        async with self._sending:
            connection = self._connection
            # Both commands may be waiting for the lock: the later state of the channel decides which still holds.
            if connection is None or (command == "SUBSCRIBE") != (channel in self._channels):
                return
            if command == "SUBSCRIBE":
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
            if self._channels:
                await connection.send_command("SUBSCRIBE", *self._channels)
            self._connection = connection
        _CONNECTED.set(1)
        self._sessions += 1
        if self._sessions > 1:
            log.info("bus_reconnected")
        pinging = self._supervisor.spawn("bus-ping", self._ping(connection))
        try:
            while True:
                # Not `wait_for`: in Python 3.11 it swallows a cancellation that meets a reply, and the end never comes.
                async with asyncio.timeout(_SILENCE_SECONDS):
                    reply = await connection.read_response()
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
        if kind == b"subscribe":
            left = self._unanswered.pop(channel, 1) - 1
            if left:
                self._unanswered[channel] = left
            elif entry is not None:
                entry.confirmed.set()
                if channel in self._missed:
                    self._missed.discard(channel)
                    self._resync(entry)
        elif kind == b"message" and entry is not None:
            _MESSAGES.inc()
            for subscription in list(entry.subscriptions):
                try:
                    subscription.callback(payload)
                except Exception:
                    log.exception("bus_callback_failed", channel_kind=subscription.channel.split(":", 1)[0])

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
            _CONNECTED.set(0)
            for entry in self._channels.values():
                entry.confirmed.clear()
