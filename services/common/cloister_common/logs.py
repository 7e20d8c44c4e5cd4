"""Structured logs: one JSON object a line, a constant event name, data in keys.

Prompts, answers, document text, file names, tokens and keys are never logged, at any level. Our own loggers keep to
that by themselves. A library's may write whatever passes through it: websockets logs whole handshakes and frames at
``debug``. So a foreign logger is heard from ``warning`` on only, and shown by its name, its place and the class of its
exception; its words are shown where they are a constant of the code that logged them, and their arguments never.
"""

import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, TextIO

import structlog

from cloister_common.plain_lines import PlainHandler

__all__ = [
    "bind_log_fields",
    "clear_log_fields",
    "configure_logging",
    "configure_our_loggers",
    "get_logger",
    "json_handler",
    "levels",
    "log_plainly",
    "report_failures",
    "set_level",
]

_OURS = "cloister_"

_BOUND: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default={})  # noqa: B039 - it is never changed
"""What `bind_log_fields` bound: one mapping in one variable, since structlog's own, a variable for each field, cost
each request ten times as much."""

_ASYNCIO_WORDS = re.compile(
    r"Task exception was never retrieved|Future exception was never retrieved|Task was destroyed but it is pending!"
    r"|Exception(?= in callback)|Executing(?= <)|Unclosed (?:client session|connector|connection|response)"
)
"""How asyncio's reports begin. What follows quotes tasks and callbacks by their repr, with arguments in it."""


def _with_bound_fields(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**_BOUND.get(), **event}


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


def _library_without_content(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    record: logging.LogRecord = event["_record"]
    if _is_ours(record):
        return event
    event["event"] = _words(record) or "library_message"
    event.setdefault("where", [f"{record.filename}:{record.lineno}"])
    return event


def _words(record: logging.LogRecord) -> str | None:
    """The message, where the code that logs it has it as a constant: then it quotes nothing.

    Logging runs inside of the call that logs, so that call's frame, which has the constants, is below this one. Code
    without frames (compiled, or on the other end of a queue) has none to show.
    """
    if record.name == "asyncio":
        known = _ASYNCIO_WORDS.match(str(record.msg))
        return known and known[0]
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if (frame.f_lineno, frame.f_code.co_filename) == (record.lineno, record.pathname):
            return next((word for word in frame.f_code.co_consts if isinstance(word, str) and word == record.msg), None)
    return None


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.startswith(_OURS)


def _is_heard(record: logging.LogRecord) -> bool:
    """Whether a record may be shown: a library may have set levels of its own."""
    return _is_ours(record) or record.levelno >= logging.WARNING


def _origin(service: str, worker: int | None) -> dict[str, Any]:
    """What every line begins with."""
    return {"service": service} if worker is None else {"service": service, "worker": worker}


def _shared_processors(service: str, worker: int | None = None) -> list[structlog.typing.Processor]:
    origin = _origin(service, worker)
    return [
        _with_bound_fields,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _, __, event: {**origin, **event},
        _exception_without_message,
    ]


def json_handler(
    service: str, *, mark: str = "", worker: int | None = None, stream: TextIO | None = None
) -> logging.Handler:
    """A handler of our format, for any logger: also where somebody else's ``dictConfig`` sets logging up (vLLM's).

    Args:
        service: Which service logs.
        mark: What each line begins with, for a reader that takes it off again.
        worker: Which of several processes this is.
        stream: Where to, if not standard output.
    """
    # What fails while it logs would be printed with its arguments.
    logging.raiseExceptions = False
    handler = PlainHandler(_origin(service, worker), mark, stream or sys.stdout)
    handler.addFilter(_is_heard)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared_processors(service, worker), _library_without_content],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
                lambda _, __, line: f"{mark}{line}",
            ],
            use_get_message=False,
        )
    )
    return handler


def levels(service: str, level: str) -> dict[str, str]:
    """The level of each of our loggers; every other has ``WARNING``."""
    return dict.fromkeys((f"{_OURS}common", f"{_OURS}{service}"), level.upper())


def configure_logging(
    *, service: str, level: str = "info", worker: int | None = None, stream: TextIO | None = None
) -> None:
    """Sets up logging for the process, which may be one of several ``worker`` s. Called once, from ``__main__``.

    ``stream`` is for a process whose standard output is for something else.
    """
    logging.getLogger().handlers = [json_handler(service, worker=worker, stream=stream)]
    set_level(service=service, level=level)
    configure_our_loggers(service, worker)


def set_level(*, service: str, level: str) -> None:
    """Logs at ``level`` from now on, through whatever handlers there are."""
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    for name, own in levels(service, level).items():
        logging.getLogger(name).setLevel(own)


def configure_our_loggers(service: str, worker: int | None = None) -> None:
    """The part of `configure_logging` that is left to do where somebody else has made the handlers."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(service, worker),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def report_failures() -> None:
    """What Python itself would print goes to the log, for the whole process: by class and place, without messages.

    That is what ends the process or a thread, what is raised where nobody can catch it, and warnings.
    """
    log = get_logger(__name__)

    def on_thread(failure: threading.ExceptHookArgs) -> None:
        log.error("thread_failed", exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback))

    def on_unraisable(failure: Any) -> None:
        log.error("exception_ignored", exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback))

    def on_warning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        log.warning("python_warning", error=category.__name__, where=[f"{filename.rsplit('/', 1)[-1]}:{lineno}"])

    sys.excepthook = lambda *info: log.critical("process_failed", exc_info=info)
    threading.excepthook = on_thread
    sys.unraisablehook = on_unraisable
    warnings.showwarning = on_warning


def bind_log_fields(**fields: str) -> None:
    """Has every line that this request, or a task begun in it, logs from now on carry ``fields``: ids, no content."""
    _BOUND.set({**_BOUND.get(), **fields})


def clear_log_fields() -> None:
    """Has no later line carry what was bound."""
    _BOUND.set({})


def get_logger(name: str) -> Any:
    """A structlog logger bound to ``name``."""
    return structlog.stdlib.get_logger(name)


def log_plainly(logger: logging.Logger, event: str, fields: Mapping[str, str | int | float | None]) -> None:
    """Logs one line at ``info`` that carries what is bound too, for what is logged with each request or turn.

    It looks as one of `get_logger`, in an eighth of the time: its values need no processor, being ids, numbers and
    constants of ours. Where the log of the process is not made by `json_handler`, it is one of `get_logger`.
    """
    if logger.isEnabledFor(logging.INFO):
        handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, PlainHandler)]
        for handler in handlers:
            handler.write_plainly(logger.name, event, {**_BOUND.get(), **fields})
        if not handlers:
            get_logger(logger.name).info(event, **fields)
