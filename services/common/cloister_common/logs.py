"""Structured logs: one JSON object a line, a constant event name, data in keys.

Prompts, answers, document text, file names, tokens and keys are never logged. `configure_logging` also routes the
standard library's loggers (uvicorn, libraries) into the same format and cuts exception *messages*, which can quote
content, down to the exception's type and the place it came from.
"""

import logging
import re
import sys
import traceback
from typing import Any

import structlog

_QUOTED = re.compile(r"\n| in callback| <")

__all__ = ["configure_logging", "get_logger", "json_formatter"]


def _exception_without_message(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    elif isinstance(info, BaseException):
        info = (type(info), info, info.__traceback__)
    if isinstance(info, tuple) and info[0] is not None:
        event["error"] = info[0].__name__
        event["where"] = [f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in traceback.extract_tb(info[2])][-6:]
    return event


def _asyncio_without_objects(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """asyncio names tasks and callbacks by their repr, and that quotes arguments and exceptions."""
    if event.get("logger") == "asyncio":
        event["event"] = _QUOTED.split(str(event["event"]), maxsplit=1)[0]
    return event


def _shared_processors(service: str) -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _, __, event: {"service": service, **event},
        _exception_without_message,
        _asyncio_without_objects,
    ]


def json_formatter(service: str) -> logging.Formatter:
    """The formatter itself, for a process whose logging is set up by somebody else's ``dictConfig`` (vLLM's)."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared_processors(service),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )


def configure_logging(*, service: str, level: str = "info") -> None:
    """Sets up logging for the process. Called once, from ``__main__``."""
    shared = _shared_processors(service)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(json_formatter(service))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "pymilvus", "uvicorn.access", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> Any:
    """A structlog logger bound to ``name``."""
    return structlog.stdlib.get_logger(name)
