"""HTTP metrics and the metrics port.

The port has a thread and a loop of its own: it answers while the service's own loop is busy. Labels hold the
route's template, never the path, so that ids do not end up in the metrics store.
"""

import asyncio
import threading
import time

from prometheus_client import Counter, Histogram, make_asgi_app
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_common.doors import listen, serve_bounded
from cloister_common.settings import ServerSettings

__all__ = ["MetricsMiddleware", "serve_metrics"]

_REQUESTS = Counter("cloister_http_requests_total", "HTTP requests by route and status.", ["method", "route", "status"])
_SECONDS = Histogram(
    "cloister_http_request_seconds",
    "Seconds until the response began.",
    ["method", "route"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)

_MOST_READERS = 64
"""Open connections of the metrics port: a few scrapers each keep one."""


class MetricsMiddleware:
    """Counts requests and times their first byte. Pure ASGI: it adds no task and buffers nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                template = getattr(scope.get("route"), "path", "(none)")
                _REQUESTS.labels(scope["method"], template, message["status"]).inc()
                _SECONDS.labels(scope["method"], template).observe(time.perf_counter() - started)
            await send(message)

        await self.app(scope, receive, counted)


def serve_metrics(server: ServerSettings) -> None:
    """Serves ``/metrics`` from a thread of its own on ``server.metrics_port``.

    Raises:
        SettingsError: The port is taken.
    """
    listener = listen(server.host, server.metrics_port, setting="server.metrics_port")
    limits = server.limits.model_copy(update={"connections": _MOST_READERS})
    work = serve_bounded(make_asgi_app(), listener, limits)
    threading.Thread(target=asyncio.run, args=(work,), name="metrics", daemon=True).start()
