"""Pipelines of a Redis Cluster: each transaction at the node of its slot, other commands at one node after another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.crc import key_slot
from redis.exceptions import AskError, NoScriptError, RedisError, ResponseError, TryAgainError, WatchError

from cloister_gateway.storage.connections import may_write

if TYPE_CHECKING:
    from cloister_gateway.storage.cluster import ClusterClient

__all__ = ["ClusterPipeline", "slot_of_command", "slot_of_key"]

_NOT_DONE = (AskError, TryAgainError, NoScriptError)
"""What a node says that did nothing, and another would do (`MovedError` is an `AskError`), or the same in a moment."""


def slot_of_key(key: Any) -> int:
    """The slot of a key or of a sharded channel."""
    return int(key_slot(key.encode() if isinstance(key, str) else bytes(key)))


def slot_of_command(args: tuple[Any, ...]) -> int:
    """The slot that a command is about: that of its first key.

    Raises:
        ValueError: It has no key, so that nobody can say which node it is for.
    """
    first = 3 if args[0] in ("EVAL", "EVALSHA") else 1
    if len(args) <= first or args[0] in ("CONFIG GET", "INFO", "SCAN", "SCRIPT EXISTS", "SCRIPT LOAD"):
        raise ValueError(f"'{args[0]}' is for a node, not for a cluster")
    return slot_of_key(args[first])


class ClusterPipeline(Pipeline):
    """As redis-py's, for a `ClusterClient`. In a transaction all keys lie in one slot, else Redis refuses it."""

    def __init__(self, cluster: ClusterClient, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster
        self._watcher: Pipeline | None = None

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """``WATCH``, and what is asked for after it: at one node, and over one connection."""
        if self._watcher is not None:
            return await self._watcher.immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

        async def watch(node: Redis) -> Pipeline:
            pipeline = node.pipeline(transaction=True)
            try:
                await pipeline.immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            except BaseException:
                await pipeline.reset()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                raise
            return pipeline

        self._watcher = await self._cluster.redirected(slot_of_command(args), watch)
        self.watching = True
        return True

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Does what was queued.

        Raises:
            WatchError: Something that is watched has changed, or its slot has moved.
        """
        try:
            if self._watcher is not None:
                return await self._execute_watching(self._watcher, raise_on_error=raise_on_error)
            if not self.command_stack:
                return []
            if self.is_transaction:
                return await self._execute_at_one_node(raise_on_error=raise_on_error)
            return await self._execute_everywhere(raise_on_error=raise_on_error)
        finally:
            await self.reset()

    async def reset(self) -> None:  # type: ignore[override]  # not the command of that name
        watcher, self._watcher, self.watching = self._watcher, None, False
        try:
            if watcher is not None:
                await watcher.reset()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        finally:
            await super().reset()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    async def _execute_watching(self, watcher: Pipeline, *, raise_on_error: bool) -> list[Any]:
        watcher.explicit_transaction = self.explicit_transaction
        watcher.command_stack = self.command_stack
        try:
            return await watcher.execute(raise_on_error)
        except _NOT_DONE as error:
            self._cluster.doubt()
            raise WatchError("The slot is moving.") from error

    async def _execute_at_one_node(self, *, raise_on_error: bool) -> list[Any]:
        commands = self.command_stack

        async def execute(node: Redis) -> list[Any]:
            async with node.pipeline(transaction=True) as pipeline:
                pipeline.scripts = self.scripts
                pipeline.command_stack = list(commands)
                return await pipeline.execute(raise_on_error)

        return await self._cluster.redirected(slot_of_command(commands[0][0]), execute)

    async def _execute_everywhere(self, *, raise_on_error: bool) -> list[Any]:
        """Reads at all nodes at once. Where anything may be written, in the order in which it was asked for: a later
        write may rest on an earlier one, and is not done at another node where that failed or was refused."""
        replies: list[Any] = [None] * len(self.command_stack)
        writes = may_write(args for args, _ in self.command_stack)
        steps = [self._execute_step(node, here, replies) for node, here in await self._steps(in_order=writes)]
        try:
            for together in [[step] for step in steps] if writes else [steps]:
                await asyncio.gather(*together)
                if together[-1] is not steps[-1]:
                    _raise_first(replies)
        except RedisError:
            self._cluster.doubt()
            raise
        finally:
            for step in steps:
                step.close()
        if raise_on_error:
            _raise_first(replies)
        return replies

    async def _steps(self, *, in_order: bool) -> list[tuple[Redis, list[int]]]:
        """Which commands go to which node, by their places: in order, or all of a node together."""
        steps: list[tuple[Redis, list[int]]] = []
        for place, (args, _) in enumerate(self.command_stack):
            node = self._cluster.node(await self._cluster.address_of_slot(slot_of_command(args)))
            step = next((step for step in (steps[-1:] if in_order else steps) if step[0] is node), None)
            if step is None:
                steps.append(step := (node, []))
            step[1].append(place)
        return steps

    async def _execute_step(self, node: Redis, here: list[int], replies: list[Any]) -> None:
        """Does the commands in these places at a node; those that it is not for, where they belong."""
        async with node.pipeline(transaction=False) as pipeline:
            pipeline.command_stack = [self.command_stack[place] for place in here]
            for place, reply in zip(here, await pipeline.execute(raise_on_error=False), strict=True):
                replies[place] = reply
        for place in here:
            if isinstance(replies[place], _NOT_DONE):
                args, options = self.command_stack[place]
                try:
                    replies[place] = await self._cluster.execute_command(*args, **options)
                except ResponseError as error:
                    replies[place] = error


def _raise_first(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
