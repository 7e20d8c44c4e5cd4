"""Answers in vLLM's place until the model is loaded: that this pod is not ready, and, to a gateway, how far it is.

It is a process of its own, since vLLM's imports and loads hold an interpreter for seconds at a time. Both have the
launcher's socket: this one accepts on it until the guard ends it, vLLM from then on, and what connects in between
waits for vLLM. So nobody is refused who comes at that moment, and no port is taken twice.
"""

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path
from weakref import WeakSet

from cloister_common.certificates import server_context
from cloister_common.doors import bounded, listen
from cloister_common.doors.http import BoundedHttp
from cloister_common.errors import Unavailable
from cloister_common.internal import InternalTokens
from cloister_common.settings import load_settings, read_secret_lines
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from cloister_llm.settings import (
    HERALD_VARIABLE,
    LISTENER_VARIABLE,
    PHASE_VARIABLE,
    LlmSettings,
    inherited_environment,
    started_herald,
)
from cloister_llm.starting.phases import phase_in

__all__ = ["Herald", "end_herald", "phase_file", "start_herald"]

_MODULE = "cloister_llm.starting.herald"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_READY = "/readyz"

_LAST_SECONDS = 1.0
"""How long a connection that was accepted may take to ask, once vLLM is to accept the next."""
_END_SECONDS = 5.0
"""After which it is ended without its last words: a pod that is loaded waits for nobody."""
_LOOK_SECONDS = 0.02


class Herald:
    """The answers; an ASGI application.

    Args:
        tokens: Of the gateways. Whoever has none hears that the pod is not ready, and no more.
        phase_file: Where the model's phase stands.
    """

    def __init__(self, tokens: InternalTokens, phase_file: Path) -> None:
        self._tokens = tokens
        self._phase_file = phase_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = Unavailable("This pod is starting. Ask another one.", retry_after=1)
        told: dict[str, object] = {**error.body()}
        asked = (scope["method"], scope["path"]) == ("GET", _READY)
        if asked and self._tokens.accepts(Headers(scope=scope).get("authorization")):
            told["phase"] = phase_in(self._phase_file)
        # The next request on a connection that stays would meet this process's end.
        headers = {**error.headers(), "connection": "close"}
        await JSONResponse(told, status_code=error.status, headers=headers)(scope, receive, send)


def start_herald(settings: LlmSettings, settings_file: Path) -> dict[str, str]:
    """Listens, and starts a process that answers; gives what vLLM's process has to find both by, in its environment.

    Raises:
        SettingsError: The port is taken.
    """
    number = listen(settings.server.host, settings.server.port, setting="server.port").detach()
    os.set_inheritable(number, True)
    words = ["--config", str(settings_file), "--listener", str(number), "--parent", str(os.getpid())]
    herald = os.posix_spawn(sys.executable, [sys.executable, "-m", _MODULE, *words], inherited_environment())
    return {LISTENER_VARIABLE: str(number), HERALD_VARIABLE: str(herald), PHASE_VARIABLE: str(phase_file(settings))}


async def end_herald() -> None:
    """Ends the process that answered so far, which is a child of this one, where there is one; returns when it has."""
    herald = started_herald()
    if herald is None:
        return
    deadline = time.monotonic() + _END_SECONDS
    try:
        os.kill(herald, signal.SIGTERM)
        while os.waitpid(herald, os.WNOHANG) == (0, 0):  # noqa: ASYNC222 - it does not wait
            if time.monotonic() >= deadline:
                os.kill(herald, signal.SIGKILL)
            await asyncio.sleep(_LOOK_SECONDS)
    except (ProcessLookupError, ChildProcessError):
        pass  # It has ended before, and somebody has seen to it.


def phase_file(settings: LlmSettings) -> Path:
    """Where the phase of the model stands: beside what vLLM keeps for its next start."""
    return settings.engine.cache_dir / "phase"


async def _serve(settings: LlmSettings, listener: socket.socket) -> None:
    """Answers until SIGTERM, and then those who have connected."""
    tokens = InternalTokens(read_secret_lines(settings.token_file, what="The llm pod's internal token"))
    herald = Herald(tokens, phase_file(settings))
    limits, tls = settings.server.limits, settings.server.tls
    context = None if tls is None else server_context(tls)
    protocol, state = bounded(herald, limits)
    accepted: WeakSet[BoundedHttp] = WeakSet()

    def accept() -> BoundedHttp:
        connection = protocol()
        accepted.add(connection)
        return connection

    def is_asked() -> bool:
        # What is still in its handshake has no transport yet, and `state` does not know it.
        return bool(state.connections) or any(connection.transport is None for connection in accepted)

    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    handshake = None if context is None else limits.head_seconds
    server = await loop.create_server(accept, sock=listener, ssl=context, ssl_handshake_timeout=handshake)
    await ended.wait()
    server.close()
    deadline = time.monotonic() + _LAST_SECONDS
    await asyncio.sleep(_LOOK_SECONDS)  # What was accepted a moment ago is a connection after some turns of the loop.
    while is_asked() and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody says when one has gone
        await asyncio.sleep(_LOOK_SECONDS)


def main() -> None:
    """``python -m cloister_llm.starting.herald --config FILE --listener NUMBER --parent PID``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    # Where vLLM ends while it loads, the port has to be free for its next start.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != given.parent:
        return
    asyncio.run(_serve(load_settings(LlmSettings, given.config), socket.socket(fileno=given.listener)))


if __name__ == "__main__":
    main()
