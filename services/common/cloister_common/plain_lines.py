"""Lines of the log that are written in one piece, without logging's records and structlog's processors.

Every request and every turn logs one. In the usual way that was a tenth of what a short answer costs.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, TextIO

__all__ = ["PlainHandler"]


class PlainHandler(logging.StreamHandler[TextIO]):
    """Writes what logging hands it, and plain lines.

    Args:
        origin: What each plain line says of where it comes from.
        mark: What it begins with.
        stream: Where to.
    """

    def __init__(self, origin: Mapping[str, Any], mark: str, stream: TextIO) -> None:
        super().__init__(stream)
        self._begin = mark + json.dumps(origin)[:-1]
        self._lock: Any = self.lock

    def write_plainly(self, logger: str, event: str, fields: Mapping[str, str | int | float | None]) -> None:
        """Writes a line at ``info`` with ``fields``, whose names are constants of ours."""
        parts = [self._begin]
        for name, value in fields.items():
            parts.append(f'"{name}": {quoted(value) if isinstance(value, str) else _number(value)}')
        time = datetime.now(UTC).isoformat().removesuffix("+00:00")
        parts.append(f'"event": "{event}", "level": "info", "logger": "{logger}", "timestamp": "{time}Z"}}\n')
        line = ", ".join(parts)
        try:
            with self._lock:
                self.stream.write(line)
                self.stream.flush()
        except (OSError, ValueError):
            pass  # Whoever read the log has gone. That ends no request.


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value)
