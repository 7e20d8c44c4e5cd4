"""HTTP metrics and the metrics port.

The port has a thread and a loop of its own: it answers while the service's own loop is busy. So it has a ``/livez``
too, for whoever restarts what does not answer: there a service lives as long as its loop turns at all, however late,
and however many connections it has. Labels hold the route's template, never the path, so that ids do not end up in
the metrics store.
"""

import asyncio
import threading
import time
from collections.abc import Callable

from prometheus_client import Counter, Histogram, make_asgi_app
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cloister_common.doors import listen, serve_bounded
from cloister_common.settings import ConnectionLimits, ServerSettings

__all__ = ["DEAD_SECONDS", "Heart", "count_answer", "metrics_limits", "serve_metrics", "with_health"]

_REQUESTS = Counter("cloister_http_requests_total", "HTTP requests by route and status.", ["method", "route", "status"])
_SECONDS = Histogram(
    "cloister_http_request_seconds",
    "Seconds until the response began.",
    ["method", "route"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)

_METERS: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
"""What `count_answer` counts in. Finding it by its labels costs the client library 2 µs each time."""

_MOST_READERS = 64
"""Open connections of the metrics port: a few scrapers each keep one."""


def count_answer(method: str, route: str | None, status: int, seconds: float) -> None:
    """Counts a request whose answer began after ``seconds``; ``route`` is None where none matched."""
    labels = (method, route or "(none)", status)
    meters = _METERS.get(labels)
    if meters is None:
        # Statuses, templates and the methods that a parser knows: there are few.
        meters = _METERS[labels] = (_REQUESTS.labels(*labels), _SECONDS.labels(*labels[:2]))
    requests, histogram = meters
    requests.inc()
    histogram.observe(seconds)


DEAD_SECONDS = 30.0
"""A loop that has not turned for so long is stuck: the longest that anything of ours may hold it is far below a second,
and a machine that is swapping or out of processor time may make that twenty."""


class Heart:
    """Beats as long as an event loop turns."""

    def __init__(self) -> None:
        self._last: float | None = None

    @property
    def beats(self) -> bool:
        """Whether it has beaten lately; asked from any thread."""
        return self._last is not None and time.monotonic() - self._last < DEAD_SECONDS

    async def beat(self) -> None:
        """Beats each second, for ever."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(1)


def with_health(metrics: ASGIApp, lives: Callable[[], bool]) -> ASGIApp:
    """``metrics``, and ``/livez`` that is a 503 where not ``lives()``."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/livez":
            await metrics(scope, receive, send)
            return
        status = ("ok", 200) if lives() else ("stuck", 503)
        await JSONResponse({"status": status[0]}, status_code=status[1])(scope, receive, send)

    return app


def metrics_limits(server: ServerSettings) -> ConnectionLimits:
    """The limits on connections of the metrics port."""
    return server.limits.model_copy(update={"connections": _MOST_READERS})


def serve_metrics(server: ServerSettings, heart: Heart | None = None) -> None:
    """Serves ``/metrics``, and with a ``heart`` ``/livez``, from a thread of its own on ``server.metrics_port``.

    Raises:
        SettingsError: The port is taken.
    """
    listener = listen(server.host, server.metrics_port, setting="server.metrics_port")
    app = make_asgi_app()
    if heart is not None:
        app = with_health(app, lambda: heart.beats)
    work = serve_bounded(app, listener, metrics_limits(server))
    threading.Thread(target=asyncio.run, args=(work,), name="metrics", daemon=True).start()
