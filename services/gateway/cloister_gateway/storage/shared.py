"""redis-py's client over shared connections (`cloister_gateway.storage.lines`): the same calls, the same replies.

Commands, scripts, pipelines and transactions go over them. A transaction that watches keys needs a connection to
itself over several round trips, and takes one of the pool.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript
from redis.exceptions import ExecAbortError, NoScriptError

from cloister_gateway.storage.connections import Wait
from cloister_gateway.storage.lines import Lines

__all__ = ["SharedRedis", "SharedScript"]


class SharedRedis(Redis):
    """A client whose commands share a few connections.

    Args:
        pool: How connections are made, and those that transactions which watch keys take. Closed with the client.
        timeout_seconds: The longest wait for a reply.
        wait: The replicas that must have what is written before it counts, if any.
    """

    def __init__(self, pool: BlockingConnectionPool, *, timeout_seconds: float, wait: Wait | None = None) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self.replicas_wait = wait
        self.lines = Lines(pool.make_connection, timeout_seconds=timeout_seconds, wait=wait)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """The reply to one command. Raises what Redis answers, or as `Lines.exchange`."""
        (reply,) = await self.lines.exchange((args,))
        if isinstance(reply, Exception):
            raise reply
        return _told(self, args, options, reply)

    def register_script(self, script: Any) -> AsyncScript:  # type: ignore[override]  # as redis-py's own
        """A script that is sent to this Redis by its digest."""
        return SharedScript(self, script)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Commands that are sent together, by default as a transaction."""
        pipeline = _SharedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.lines = self.lines
        return pipeline

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Closes all connections."""
        await self.lines.aclose()
        await super().aclose(close_connection_pool)


class SharedScript(AsyncScript):
    """A script, sent without the detours of redis-py's own, which imports a module at each call."""

    async def __call__(
        self, keys: Sequence[Any] | None = None, args: Iterable[Any] | None = None, client: Any = None
    ) -> Any:
        """The script's reply. Raises what Redis answers, or as `Lines.exchange`."""
        if client is not None:
            return await super().__call__(keys, args, client)
        there, keys = self.registered_client, keys or ()
        try:
            return await there.execute_command("EVALSHA", self.sha, len(keys), *keys, *(args or ()))
        except NoScriptError:
            self.sha = await there.script_load(self.script)
            return await there.execute_command("EVALSHA", self.sha, len(keys), *keys, *(args or ()))


class _SharedPipeline(Pipeline):
    lines: Lines

    async def load_scripts(self) -> None:
        """Makes sure that Redis knows the scripts of this pipeline."""
        scripts = list(self.scripts)
        (known,) = await self.lines.exchange([("SCRIPT", "EXISTS", *(script.sha for script in scripts))])
        missing = [script for script, is_known in zip(scripts, known, strict=True) if not is_known]
        if missing:
            _raise_first(await self.lines.exchange([("SCRIPT", "LOAD", script.script) for script in missing]))

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The replies to what was put into the pipeline. Raises as redis-py does, or as `Lines.exchange`."""
        if self.watching or self.explicit_transaction or self.connection is not None:
            return await super().execute(raise_on_error)
        try:
            stack = self.command_stack
            if not stack:
                return []
            if self.scripts:
                await self.load_scripts()
            commands = [args for args, _ in stack]
            if self.is_transaction:
                _, *queued, replies = await self.lines.exchange([("MULTI",), *commands, ("EXEC",)])
                if isinstance(replies, ExecAbortError):
                    _raise_first(queued)
                _raise_first([replies])
            else:
                replies = await self.lines.exchange(commands)
            if raise_on_error:
                self.raise_first_error(stack, replies)
            return [
                _told(self, args, dict(options), reply) for (args, options), reply in zip(stack, replies, strict=True)
            ]
        finally:
            await self.reset()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


def _raise_first(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


def _told(client: Redis, args: Any, options: dict[str, Any], reply: Any) -> Any:
    """``reply`` in the shape that redis-py gives replies to this command."""
    callback = client.response_callbacks.get(args[0])
    if callback is None or isinstance(reply, Exception):
        return reply
    options.pop("keys", None)  # of redis-py's own cache
    return callback(reply, **options)
