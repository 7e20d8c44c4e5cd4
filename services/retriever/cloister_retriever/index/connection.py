"""The connection to Milvus: made on first use, every call in a thread and under a deadline.

A server that is down is `Unavailable` (503 with Retry-After) at once, and is found again by the next call: pymilvus
makes a new channel after a failure, and each channel has a subchannel of its own here, since a shared one would hold
the new channel back by the growing pause of the old one's failures.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import NamedTuple, TypeVar

import grpc
from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.settings import read_secret
from prometheus_client import Gauge
from pymilvus import MilvusClient, MilvusException

from cloister_retriever.settings import MilvusSettings

__all__ = ["Capabilities", "MilvusConnection", "NotPrepared"]

log = get_logger(__name__)
T = TypeVar("T")
_CONNECTED = Gauge("cloister_milvus_connected", "1 while the last call to Milvus worked.")

_THREADS = 8
_RECOVERY_SECONDS = 30.0
"""So long Milvus 2.3.5 needs to have all rows in sight again after a crash, though it answers before."""

_NOT_THERE = {100, 101}
"""Milvus's codes for a collection that does not exist and for one that is not loaded (after every reopening of
Milvus Lite, and after a crash of a server)."""


class NotPrepared(Exception):
    """The collection is missing or not loaded: prepare it and call again."""


class Capabilities(NamedTuple):
    """What the server can do, asked when the connection is made."""

    version: str
    single_writer: bool
    """Milvus Lite: concurrent writes are slow and its makers advise against them."""


class MilvusConnection:
    """Runs functions of a `MilvusClient`.

    Args:
        settings: Where Milvus is.
    """

    def __init__(self, settings: MilvusSettings) -> None:
        self._settings = settings
        # pymilvus logs every failed call with a stack trace; our own line says it in one.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._password = (
            read_secret(settings.password_file, what="Milvus's password", min_bytes=6).decode()
            if settings.password_file is not None
            else ""
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="milvus")
        self._lock = threading.Lock()
        self._client: MilvusClient | None = None
        self._writing = asyncio.Lock()
        self._failed = False
        self._back_at = float("-inf")
        """When it worked again after it had failed (monotonic seconds)."""

        self.capabilities: Capabilities | None = None

    @property
    def timeout(self) -> float:
        """The deadline of one call, in seconds."""
        return self._settings.timeout_seconds

    async def run(self, call: Callable[[MilvusClient], T], *, write: bool = False, seconds: float | None = None) -> T:
        """The result of ``call(client)``.

        Raises:
            NotPrepared: The collection is missing or not loaded.
            Unavailable: Milvus is down, too slow, or answered with an error of its own.
        """
        deadline = self.timeout if seconds is None else seconds
        if write and (self.capabilities is None or self.capabilities.single_writer):
            async with self._writing:
                return await self._run(call, deadline)
        return await self._run(call, deadline)

    def require_settled(self) -> None:
        """Raises `Unavailable` for a while after a server came back: what is to be removed may be out of its sight
        still, and would come back with the rest."""
        left = self._back_at + _RECOVERY_SECONDS - time.monotonic()
        if left > 0 and self.capabilities is not None and not self.capabilities.single_writer:
            raise Unavailable("The vector index has just come back. Try again in a moment.", retry_after=ceil(left))

    async def check(self) -> None:
        """Raises `Unavailable` unless Milvus answers."""
        await self._run(lambda client: client.get_server_version(timeout=2.0), 3.0)

    async def close(self) -> None:
        """Closes the channel and ends the threads."""
        if self._client is not None:
            self._client.close()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

    async def _run(self, call: Callable[[MilvusClient], T], seconds: float) -> T:
        working = asyncio.get_running_loop().run_in_executor(self._threads, self._call, call)
        try:
            # The thread ends by pymilvus's own deadline; a little later so is this wait.
            async with asyncio.timeout(seconds + 2.0):
                return await asyncio.shield(working)
        except TimeoutError as error:
            working.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise self._unavailable("timeout") from error

    def _call(self, call: Callable[[MilvusClient], T]) -> T:
        try:
            result = call(self._connected())
        except MilvusException as error:
            if error.code in _NOT_THERE:
                raise NotPrepared from error
            raise self._unavailable(str(error.code)) from error
        except grpc.RpcError as error:
            raise self._unavailable(type(error).__name__) from error
        _CONNECTED.set(1)
        if self._failed:
            self._failed, self._back_at = False, time.monotonic()
        return result

    def _connected(self) -> MilvusClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> MilvusClient:
        settings = self._settings
        tls: dict[str, str | bool] = {}
        if settings.uri.startswith("https:"):
            tls["secure"] = True
            if settings.tls.ca_file is not None:
                tls["server_pem_path"] = str(settings.tls.ca_file)
            if settings.tls.server_name is not None:
                tls["server_name"] = settings.tls.server_name
        client = MilvusClient(
            uri=settings.uri,
            user=settings.user or "",
            password=self._password,
            # Milvus Lite has the default database only under its empty name.
            db_name="" if settings.database == "default" else settings.database,
            timeout=min(5.0, settings.timeout_seconds),
            dedicated=True,
            grpc_options={
                "grpc.use_local_subchannel_pool": 1,
                "grpc.initial_reconnect_backoff_ms": 200,
                "grpc.max_reconnect_backoff_ms": 2000,
            },
            **tls,
        )
        self.capabilities = _capabilities(client.get_server_version(timeout=5.0))
        log.info("milvus_connected", version=self.capabilities.version)
        return client

    def _unavailable(self, reason: str) -> Unavailable:
        _CONNECTED.set(0)
        self._failed = True
        log.warning("milvus_failed", reason=reason)
        return Unavailable("The vector index does not answer. Try again in a moment.", retry_after=5)


def _capabilities(version: str) -> Capabilities:
    if version.startswith("milvus_lite"):
        return Capabilities(version, single_writer=True)
    return Capabilities(version, single_writer=False)
