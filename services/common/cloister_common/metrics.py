"""HTTP metrics and the metrics port.

The port has a thread and a loop of its own: it answers while the service's own loop is busy. Labels hold the
route's template, never the path, so that ids do not end up in the metrics store.
"""

import asyncio
import threading

from prometheus_client import Counter, Histogram, make_asgi_app

from cloister_common.doors import listen, serve_bounded
from cloister_common.settings import ServerSettings

__all__ = ["count_answer", "serve_metrics"]

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


def serve_metrics(server: ServerSettings) -> None:
    """Serves ``/metrics`` from a thread of its own on ``server.metrics_port``.

    Raises:
        SettingsError: The port is taken.
    """
    listener = listen(server.host, server.metrics_port, setting="server.metrics_port")
    limits = server.limits.model_copy(update={"connections": _MOST_READERS})
    work = serve_bounded(make_asgi_app(), listener, limits)
    threading.Thread(target=asyncio.run, args=(work,), name="metrics", daemon=True).start()
