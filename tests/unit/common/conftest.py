"""Logging as in production, so that what a test sees in the log is what an operator would see."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from cloister_common.logs import configure_logging


class LogLines:
    """What was logged so far."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The parsed lines of one event."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["event"] == name]


@pytest.fixture(autouse=True)
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogLines]:
    """JSON logs in memory; everything is put back afterwards."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level, old = root.handlers, root.level, structlog.get_config()
    monkeypatch.setattr("sys.stdout", stream)
    configure_logging(service="test", level="debug")
    # A logger that was used before keeps its old processors otherwise.
    structlog.configure(cache_logger_on_first_use=False)
    yield LogLines(stream)
    root.handlers, root.level = handlers, level
    structlog.configure(**old)
