"""Runs an application with uvicorn: bounded connections, TLS and log level that reload, the metrics port, a clean end.

The one entry of every service's ``__main__``: parse ``--config``, load the settings, set up logging, serve. A setting
that is wrong, a port that is taken or a key that is missing ends the process with one sentence and exit code 2.
"""

import argparse
import asyncio
import gc
import importlib.util
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

from cloister_common.certificates import server_context, watch_certificate
from cloister_common.doors import allow_files, bound_connections, listen
from cloister_common.errors import CloisterError
from cloister_common.log_level import watch_log_level
from cloister_common.logs import configure_logging, get_logger, report_failures
from cloister_common.metrics import Heart, serve_metrics
from cloister_common.settings import (
    ConnectionLimits,
    ServiceSettings,
    SettingsError,
    SharedServerSettings,
    load_settings,
)
from cloister_common.workers import Worker, run_workers

__all__ = ["main", "serve"]

log = get_logger(__name__)
S = TypeVar("S", bound=ServiceSettings)

Watch = Callable[[], Coroutine[Any, Any, None]]
"""Looks at something for as long as the server runs."""

_LARGEST_FRAME_BYTES = 16 * 1024 * 1024
"""As large as a JSON body may be by default, so that what is too long is refused with an error, not by hanging up."""

_PING_SECONDS = 10.0
"""Proxies hang up on a socket that is silent for a minute, some after less."""

_LOOK_AFTER = 20_000
"""Objects more than were let go of, after which the collector looks for rings among them. Python's 700 come with every
second turn of a conversation, whose objects nearly all go by themselves: looking for others took a twelfth of the
processor. So many are a few megabytes."""

_IDLE_CONNECTION_SECONDS = 75
"""Longer than clients keep one (httpx 5 s, aiohttp 15 s, proxies 60 s), so that none sends into a closing one."""


def main(service: str, settings_class: type[S], create_app: Callable[[S], FastAPI]) -> None:
    """Command line of a service: ``python -m cloister_NAME --config FILE``."""
    parser = argparse.ArgumentParser(prog=f"cloister_{service}")
    parser.add_argument("--config", type=Path, required=True, help="the settings file (YAML)")
    # What the parent of several processes (`cloister_common.workers`) gives each of them.
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--link", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        settings = load_settings(settings_class, arguments.config)
        level, number = settings.log.level, arguments.worker
        configure_logging(service=service, level=level, worker=number)
        report_failures()
        workers = settings.server.workers if isinstance(settings.server, SharedServerSettings) else 1
        if workers > 1 and number is None:
            sys.exit(run_workers(settings.server, workers))
        watch = partial(watch_log_level, arguments.config, service=service, level=level)
        worker = None if number is None else Worker(number, arguments.link)
        serve(create_app(settings), settings, watches={"log-level": watch}, worker=worker)
    except SettingsError as error:
        sys.exit(_stop(str(error)))


def serve(
    app: FastAPI,
    settings: ServiceSettings,
    *,
    watches: Mapping[str, Watch] | None = None,
    worker: Worker | None = None,
) -> None:
    """Serves ``app`` until SIGTERM or SIGINT.

    Args:
        app: The application.
        settings: Where and how.
        watches: What runs beside it, by name, beyond the watch on its certificate.
        worker: Which of several processes this is, where it is one.

    Raises:
        SettingsError: A port is taken, the certificate cannot be read, or too few files may be open.
    """
    server = settings.server
    allow_files(server.limits.connections)
    listener = listen(server.host, server.port, setting="server.port", shared=worker is not None)
    heart = Heart()
    if worker is None:
        serve_metrics(server, heart)
    context = server_context(server.tls) if server.tls else None
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="on",
        loop="uvloop",
        http="httptools",
        # Only the gateway's image has websockets; the inner services accept no WebSocket.
        ws="websockets-sansio" if importlib.util.find_spec("websockets") else "none",
        ws_per_message_deflate=False,
        ws_max_size=_LARGEST_FRAME_BYTES,
        ws_ping_interval=_PING_SECONDS,
        timeout_keep_alive=_IDLE_CONNECTION_SECONDS,
        timeout_graceful_shutdown=int(server.shutdown_seconds),
        ssl_context_factory=(lambda _config, _default: context) if context is not None else None,
    )
    all_watches = dict(watches or {})
    if context is not None and server.tls is not None:
        all_watches["certificate"] = partial(watch_certificate, context, server.tls)
    all_watches["heart"] = heart.beat
    runner = _Server(config, server.limits, all_watches, lambda: worker.answer(heart) if worker else None)
    try:
        runner.run(sockets=[listener])
    except SystemExit:
        raise SettingsError(_why_not_started(app)) from None
    if not runner.started:
        raise SettingsError(_why_not_started(app))


class _Server(uvicorn.Server):
    """uvicorn's server that bounds its connections, with watches on its certificate and its log level beside it."""

    def __init__(
        self,
        config: uvicorn.Config,
        limits: ConnectionLimits,
        watches: Mapping[str, Watch],
        serving: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._limits = limits
        self._watches = watches
        self._serving = serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        bound_connections(self.config, self._limits)
        await super().startup(sockets)

    async def main_loop(self) -> None:
        # Modules and what was built at start stay. The collector, which would go through them in the middle of a large
        # request, holds the event loop for 50 ms and more there.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_LOOK_AFTER)
        log.info("serving")
        self._serving()
        tasks = [asyncio.create_task(watch(), name=f"{name}-watch") for name, watch in self._watches.items()]
        try:
            await super().main_loop()
        finally:
            for task in tasks:
                task.cancel()


def _why_not_started(app: FastAPI) -> str:
    """The sentence of an error that is meant to be read, else the error's type: other messages may quote anything."""
    failure = getattr(app.state, "start_failure", None)
    if isinstance(failure, SettingsError | CloisterError):
        return str(failure)
    cause = f" ({type(failure).__name__})" if failure is not None else ""
    return f"The service could not start{cause}; its log above says where."


def _stop(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 2
