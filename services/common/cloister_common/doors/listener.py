"""Listening sockets, and the bounded protocols in the place of uvicorn's."""

import asyncio
import math
import resource
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from cloister_common.doors.door import Door
from cloister_common.doors.http import BoundedHttp
from cloister_common.settings import ConnectionLimits, SettingsError

__all__ = ["allow_files", "bound_connections", "bounded", "claim", "listen", "serve_bounded"]

_OWN_FILES = 1024
"""What a service opens besides its callers' connections: stores, other services, workers, files."""


def allow_files(connections: int) -> None:
    """Sees to it that the process may have so many connections open: where files run out, its own calls fail first.

    Raises:
        SettingsError: The system does not allow it.
    """
    needed = connections + _OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SettingsError(
            f"This process may open {hard} files, too few for {connections} connections. Raise the limit to {needed} "
            "(ulimit -n), or lower server.limits.connections."
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def listen(host: str, port: int, *, setting: str, shared: bool = False) -> socket.socket:
    """A listening socket on ``host:port``, where the key ``setting`` puts it.

    Args:
        host: An address of this machine.
        port: The port.
        setting: Its name, for the error.
        shared: Whether other processes listen on it too: the system then spreads connections over them.

    Raises:
        SettingsError: The port is taken.
    """
    listener = _bound(host, port, setting=setting, shared=shared)
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def claim(host: str, port: int, *, setting: str) -> socket.socket:
    """Keeps a port for processes that will share it, while the socket that is given stays open.

    A port that is shared may be bound by anybody else who shares it, so whether it is free is tried out alone first.

    Raises:
        SettingsError: The port is taken.
    """
    listen(host, port, setting=setting).close()
    return _bound(host, port, setting=setting, shared=True)


def _bound(host: str, port: int, *, setting: str, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what uses the port, or set {setting}."
        ) from error
    return listener


def bound_connections(config: uvicorn.Config, limits: ConnectionLimits) -> None:
    """Puts limits on every connection that a server with ``config`` accepts.

    To be called in the server's loop, after ``config`` was loaded and before the server listens. What uvicorn makes
    of its protocol class at each connection, it makes of whatever stands in the configuration then.
    """
    door = Door(limits)
    config.http_protocol_class = cast("Any", partial(BoundedHttp, door=door))
    if config.ws_protocol_class is not None:
        # Only the gateway's image and vLLM's have websockets.
        from cloister_common.doors.pings import Pings
        from cloister_common.doors.websocket import BoundedWebSocket

        pings = Pings(config.ws_ping_interval or 0, patience=config.ws_ping_timeout or math.inf)
        config.ws_protocol_class = cast("Any", partial(BoundedWebSocket, limits=limits, pings=pings))
    if config.ssl is not None:
        # uvicorn cannot be told how long a handshake may take, and the loop's own limit is a minute.
        loop = asyncio.get_running_loop()
        bounded = partial(loop.create_server, ssl_handshake_timeout=limits.head_seconds)
        loop.create_server = bounded  # type: ignore[method-assign]


async def serve_bounded(app: Any, listener: socket.socket, limits: ConnectionLimits) -> None:
    """Serves a small ASGI application without lifespan or WebSockets, for ever, with the same limits."""
    protocol, _ = bounded(app, limits)
    server = await asyncio.get_running_loop().create_server(protocol, sock=listener)
    await server.serve_forever()


def bounded(app: Any, limits: ConnectionLimits) -> tuple[Callable[[], BoundedHttp], ServerState]:
    """What speaks to each connection of such an application, and what knows those that are open."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", http="httptools", ws="none")
    config.load()
    door, state = Door(limits), ServerState()
    return lambda: BoundedHttp(config=config, server_state=state, app_state={}, door=door), state
