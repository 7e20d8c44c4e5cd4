"""A client of a Redis Cluster: one client for each master, and the map that says which of them has a slot.

To the rest of the gateway it is a `redis.asyncio.Redis`. Commands go by their key, a script by its first, a transaction
as a whole (all its keys lie in one slot, `cloister_gateway.storage.layout`), the commands of a plain pipeline to each
node at once.

Not redis-py's `RedisCluster`, which in 8.1 loses what a gateway must not lose when slots move: it sends ``ASKING`` on
one pooled connection and the command on another, closes every connection, with the commands on them, at each fifth
``MOVED`` and at each ``CLUSTERDOWN``, and takes a thread for each command of a transaction.

A command that was refused with ``MOVED``, ``ASK`` or ``TRYAGAIN`` did nothing, so that it is sent again. One whose
answer was lost is not (`cloister_gateway.storage.client`).
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cloister_gateway.storage.cluster_pipeline import ClusterPipeline, slot_of_command, slot_of_key

__all__ = ["Address", "ClusterClient"]

T = TypeVar("T")

_MAP_SECONDS = 0.2
"""A map that was found wrong is asked for at most so often."""
_PAUSE_SECONDS = 0.02
"""Between two tries for a slot that is moving just now."""
_LOST = (RedisConnectionError, RedisTimeoutError, OSError, ClusterDownError)


class Address(NamedTuple):
    """A node, as the cluster calls it."""

    host: str
    port: int


class ClusterClient(Redis):
    """Sends each command to the master that has its slot.

    Args:
        start: Nodes to begin with.
        connect: Makes the client of a node.
        patience_seconds: How long a command waits for a slot that is on its way from one node to another.
    """

    def __init__(
        self, start: Iterable[tuple[str, int]], connect: Callable[[str, int], Redis], *, patience_seconds: float
    ) -> None:
        self._start = [Address(*address) for address in start]
        self._connect = connect
        self._patience_seconds = patience_seconds
        # One that left the cluster keeps its place: it may come back, and it closes its connections itself.
        self._nodes: dict[Address, Redis] = {}
        self._owners: list[Address | None] = []
        self._stale = True
        self._mapped_at = 0.0
        self._mapping = asyncio.Lock()
        self._scripts: dict[str, str] = {}
        super().__init__(connection_pool=self.node(self._start[0]).connection_pool)

    def node(self, address: Address) -> Redis:
        """The client of a node."""
        if address not in self._nodes:
            self._nodes[address] = self._connect(*address)
        return self._nodes[address]

    async def masters(self) -> list[Redis]:
        """The clients of all nodes that have slots."""
        await self._refresh()
        return [self.node(address) for address in dict.fromkeys(self._owners) if address is not None]

    async def address_of(self, key: str | bytes) -> Address:
        """The master that has the slot of a key or sharded channel. Raises `ClusterDownError` if none has."""
        return await self.address_of_slot(slot_of_key(key))

    async def address_of_slot(self, slot: int) -> Address:
        """The master that has a slot. Raises `ClusterDownError` if none has."""
        await self._refresh()
        owner = self._owners[slot]
        if owner is None:
            self.doubt()
            raise ClusterDownError(f"no node has the slot {slot}")
        return owner

    def doubt(self) -> None:
        """Has the map asked for again before it is used, since it proved wrong."""
        self._stale = True

    def register_script(self, script: Any) -> AsyncScript:  # type: ignore[override]  # as redis-py's own
        registered = super().register_script(script)
        self._scripts[registered.sha] = script
        return registered

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ClusterPipeline:
        return ClusterPipeline(self, transaction)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Does one command, where its slot is."""

        async def call(node: Redis) -> Any:
            return await self._call(node, args, options, asking=False)

        async def ask(node: Redis) -> Any:
            return await self._call(node, args, options, asking=True)

        return await self.redirected(slot_of_command(args), call, ask)

    async def redirected(
        self, slot: int, call: Callable[[Redis], Awaitable[T]], ask: Callable[[Redis], Awaitable[T]] | None = None
    ) -> T:
        """Calls with the client of the node that has the slot, and again where it is told another.

        Args:
            slot: The slot.
            call: Does it at a node.
            ask: Does it at a node that is only about to have the slot. Without, it waits until that has it.

        Raises:
            AskError, TryAgainError: The slot is on its way for longer than anyone waits.
        """
        clock = asyncio.get_running_loop().time
        address = await self.address_of_slot(slot)
        deadline = math.inf
        while True:
            try:
                return await call(self.node(address))
            except MovedError as error:
                address = self._moved(error, address)
                refused: Exception = error
            except AskError as error:
                refused = error
                if ask is not None:
                    try:
                        return await ask(self.node(_named(error, address)))
                    except (AskError, TryAgainError) as again:
                        refused = again
                address = await self.address_of_slot(slot)
            except TryAgainError as error:
                refused = error
            except _LOST:
                self.doubt()
                raise
            # (From the first refusal on: the answer of a node that was held up may be that another has the slot.)
            deadline = min(deadline, clock() + self._patience_seconds)
            if clock() > deadline:
                raise refused
            await asyncio.sleep(_PAUSE_SECONDS)

    async def ping(self, **_: Any) -> bool:
        """Whether any master answers. One that fails over must not make callers of the others wait.

        Raises:
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: None does.
        """
        answers = await asyncio.gather(*(node.ping() for node in await self.masters()), return_exceptions=True)
        lost = [answer for answer in answers if isinstance(answer, BaseException)]
        if lost:
            self.doubt()
        if len(lost) == len(answers):
            raise lost[0]
        return True

    async def scan_iter(  # type: ignore[override]  # as redis-py's own
        self, *args: Any, **options: Any
    ) -> AsyncIterator[Any]:
        """The keys of all masters. A key whose slot moves meanwhile may come twice."""
        for node in await self.masters():
            async for key in node.scan_iter(*args, **options):
                yield key

    async def publish(self, channel: Any, message: Any, **options: Any) -> int:
        """Tells those who subscribed to the channel at the shard that has its slot."""
        return int(await self.execute_command("SPUBLISH", channel, message, **options))

    async def pubsub_numsub(self, *channels: Any, **options: Any) -> Any:
        """How many listen to each channel, at its shard."""
        async with self.pipeline(transaction=False) as pipeline:
            for channel in channels:
                pipeline.execute_command("PUBSUB SHARDNUMSUB", channel, **options)
            return [pair for pairs in await pipeline.execute() for pair in pairs]

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await asyncio.gather(*(node.aclose() for node in self._nodes.values()))

    async def _call(self, node: Redis, args: tuple[Any, ...], options: dict[str, Any], *, asking: bool) -> Any:
        try:
            return await _send(node, args, options, asking=asking)
        except NoScriptError:
            # The node never saw it, or is a replica of one that did. (The script itself, and not SCRIPT LOAD, which
            # would be one more thing that can meet a moving slot.)
            return await _send(node, ("EVAL", self._scripts[args[1]], *args[2:]), options, asking=asking)

    def _moved(self, error: MovedError, by: Address) -> Address:
        owner = _named(error, by)
        self._owners[error.slot_id] = owner
        # Where one slot moved others do.
        self.doubt()
        return owner

    async def _refresh(self) -> None:
        """Asks for the map, if it is in doubt.

        Raises:
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: There is none yet, and no node answers.
        """
        if not self._stale:
            return
        clock = asyncio.get_running_loop().time
        async with self._mapping:
            if not self._stale or (self._owners and clock() - self._mapped_at < _MAP_SECONDS):
                return
            known = list(dict.fromkeys(address for address in self._owners if address is not None))
            # In any order: who answers first may be one that has not heard the news.
            random.shuffle(known)
            lost: Exception | None = None
            for address in [*known, *self._start]:
                try:
                    reply = await self.node(address).execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                except _LOST as error:
                    lost = error
                    continue
                self._owners, self._stale, self._mapped_at = _owners(reply, address), False, clock()
                return
            self._mapped_at = clock()
            if not self._owners and lost is not None:
                raise lost


async def _send(node: Redis, args: tuple[Any, ...], options: dict[str, Any], *, asking: bool) -> Any:
    if not asking:
        return await node.execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    # In one pipeline, since it holds for the next command of the connection.
    async with node.pipeline(transaction=False) as pipeline:
        pipeline.execute_command("ASKING")
        pipeline.execute_command(*args, **options)
        _, reply = await pipeline.execute(raise_on_error=False)
    if isinstance(reply, Exception):
        raise reply
    return reply


def _named(error: AskError, by: Address) -> Address:
    """The node that a redirection names. Without a host it is at that of the node which says so."""
    return Address(error.host or by.host, error.port)


def _owners(reply: Any, by: Address) -> list[Address | None]:
    """The owner of each slot, of what ``CLUSTER SLOTS`` says: ranges, each with its master first."""
    owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    for first, last, master, *_ in reply:
        host = master[0].decode() if isinstance(master[0], bytes) else master[0]
        owners[first : last + 1] = [Address(host or by.host, int(master[1]))] * (last + 1 - first)
    return owners
