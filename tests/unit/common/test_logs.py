"""What libraries log of their own accord says what happened and quotes nothing."""

import asyncio
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from cloister_common.logs import get_logger, report_failures

from tests.unit.common.conftest import LogLines


async def _fails() -> None:
    raise ValueError("the secret sentence of a user")


async def _forget_a_failed_task() -> None:
    task = asyncio.create_task(_fails(), name="t-lost")
    await asyncio.wait([task])
    del task
    gc.collect()


async def _fail_in_a_callback() -> None:
    def callback(content: str) -> None:
        raise ValueError(content)

    asyncio.get_running_loop().call_soon(callback, "the secret sentence of a user")
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("act", "event"),
    [(_forget_a_failed_task, "Task exception was never retrieved"), (_fail_in_a_callback, "Exception")],
)
def test_what_asyncio_reports_says_where_and_quotes_nothing(act: Any, event: str, log_lines: LogLines) -> None:
    asyncio.run(act())
    (line,) = log_lines.events(event)
    assert (line["logger"], line["error"]) == ("asyncio", "ValueError")
    assert any(place.startswith("test_logs.py:") for place in line["where"])
    assert "secret" not in log_lines.text


SECRET = "the secret sentence of a user"


class Quoting:
    """Says the secret wherever it is shown, and once more when it goes."""

    def __str__(self) -> str:
        return SECRET

    def __del__(self) -> None:
        raise ValueError(SECRET)


class Broken:
    def __str__(self) -> str:
        raise ValueError(SECRET)


@pytest.mark.parametrize(
    "say",
    [
        lambda log: log.debug(SECRET),
        lambda log: log.info("it says %s", SECRET),
    ],
)
def test_a_library_is_not_heard_below_warning_whatever_level_it_sets(
    say: Callable[[logging.Logger], None], log_lines: LogLines
) -> None:
    log = logging.getLogger("some.library")
    assert not log.isEnabledFor(logging.INFO)
    log.setLevel(logging.DEBUG)
    try:
        say(log)
    finally:
        log.setLevel(logging.NOTSET)
    assert log_lines.text == ""


@pytest.mark.parametrize(
    ("say", "event"),
    [
        (lambda log: log.warning(f"it says {SECRET}"), "library_message"),
        (lambda log: log.warning("it says " + SECRET), "library_message"),
        (lambda log: log.warning("it says %s", SECRET), "it says %s"),
        (lambda log: log.error("it says {}", extra={"words": SECRET}), "it says {}"),
        (lambda log: log.error(Quoting), "library_message"),
        (lambda log: log.critical("it says %d", Broken()), "it says %d"),
        (lambda log: log.error("too %s", "many", SECRET, stack_info=True), "too %s"),
    ],
)
def test_of_what_a_library_says_only_its_constants_are_shown(
    say: Callable[[logging.Logger], None], event: str, log_lines: LogLines, capsys: pytest.CaptureFixture[str]
) -> None:
    say(logging.getLogger("some.library"))
    (line,) = log_lines.events(event)
    assert (line["logger"], line["service"]) == ("some.library", "test")
    assert line["where"][0].startswith("test_logs.py:")
    assert "secret" not in log_lines.text + capsys.readouterr().err


def test_our_own_loggers_keep_the_level_that_was_set(log_lines: LogLines) -> None:
    get_logger("cloister_common.anything").debug("small_event", count=1)
    assert log_lines.events("small_event")[0]["count"] == 1


@pytest.fixture
def reporting(monkeypatch: pytest.MonkeyPatch) -> None:
    """`report_failures`, for the time of one test."""
    for module, hook in (
        (sys, "excepthook"),
        (sys, "unraisablehook"),
        (threading, "excepthook"),
        (warnings, "showwarning"),
    ):
        monkeypatch.setattr(module, hook, getattr(module, hook))
    report_failures()


def _fail_in_a_thread() -> None:
    thread = threading.Thread(target=lambda: asyncio.run(_fails()))
    thread.start()
    thread.join()


def _fail_while_going() -> None:
    Quoting()
    gc.collect()


def _end_the_process() -> None:
    try:
        asyncio.run(_fails())
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)


def _warn() -> None:
    warnings.showwarning(SECRET, UserWarning, f"/{SECRET}/test_logs.py", 7)


@pytest.mark.parametrize(
    ("act", "event", "error"),
    [
        (_fail_in_a_thread, "thread_failed", "ValueError"),
        (_fail_while_going, "exception_ignored", "ValueError"),
        (_end_the_process, "process_failed", "ValueError"),
        (_warn, "python_warning", "UserWarning"),
    ],
)
@pytest.mark.usefixtures("reporting")
def test_what_python_would_print_is_logged_by_class_and_place(
    act: Callable[[], None], event: str, error: str, log_lines: LogLines, capsys: pytest.CaptureFixture[str]
) -> None:
    act()
    (line,) = log_lines.events(event)
    assert line["error"] == error
    assert any(place.startswith("test_logs.py:") for place in line["where"])
    assert "secret" not in log_lines.text + capsys.readouterr().err
