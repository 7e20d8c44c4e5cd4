"""Lines that are written without logging's machinery look like all others."""

import io
import json
import logging
from typing import Any

import pytest
from cloister_common.logs import bind_log_fields, clear_log_fields, get_logger, json_handler, log_plainly

from tests.unit.common.conftest import LogLines

FIELDS: dict[str, str | int | float | None] = {
    "route": 'a "b"\n\\ü\u2028',
    "status": 200,
    "seconds": 0.0123,
    "nothing": None,
}


def test_a_plain_line_says_what_one_of_a_logger_says(log_lines: LogLines) -> None:
    bind_log_fields(request_id="req_1")
    try:
        log_plainly(logging.getLogger("cloister_common.some"), "plain", FIELDS)
        get_logger("cloister_common.some").info("usual", **FIELDS)
    finally:
        clear_log_fields()
    (plain,), (usual,) = log_lines.events("plain"), log_lines.events("usual")
    assert len(plain.pop("timestamp")) == len(usual.pop("timestamp"))
    assert plain == {**usual, "event": "plain"}
    assert plain["request_id"] == "req_1"


def test_a_plain_line_bears_the_mark_and_the_number_of_its_process() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before, root.handlers = root.handlers, [json_handler("test", mark="<6>", worker=3, stream=stream)]
    try:
        log_plainly(logging.getLogger("cloister_common.some"), "plain", {})
    finally:
        root.handlers = before
    line = stream.getvalue()
    assert line.startswith("<6>")
    assert line.endswith("}\n")
    assert json.loads(line[3:])["worker"] == 3


def test_a_level_hides_plain_lines(log_lines: LogLines) -> None:
    logger = logging.getLogger("cloister_common.some")
    logger.setLevel(logging.WARNING)
    try:
        log_plainly(logger, "plain", FIELDS)
    finally:
        logger.setLevel(logging.NOTSET)
    assert log_lines.text == ""


def test_where_somebody_else_makes_the_log_a_plain_line_is_one_like_all(caplog: pytest.LogCaptureFixture) -> None:
    root = logging.getLogger()
    before, root.handlers = root.handlers, [caplog.handler]
    try:
        log_plainly(logging.getLogger("cloister_common.some"), "plain", {"status": 200})
    finally:
        root.handlers = before
    (record,) = caplog.records
    said: Any = record.msg
    assert (said["event"], said["status"]) == ("plain", 200)


def test_a_request_goes_on_when_nobody_reads_the_log() -> None:
    stream = io.StringIO()
    stream.close()
    root = logging.getLogger()
    before, root.handlers = root.handlers, [json_handler("test", stream=stream)]
    try:
        log_plainly(logging.getLogger("cloister_common.some"), "plain", {})
    finally:
        root.handlers = before
