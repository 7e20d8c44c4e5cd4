"""An input that cannot be done is refused as a whole, each of its faults by line, field and reason."""

from typing import Any

import openai
import pytest

from tests.integration.gateway.batches.conftest import (
    CHAT,
    EMBEDDINGS,
    RESPONSES,
    MakeBatches,
    asked,
    begin,
    counts,
    ended,
)
from tests.integration.gateway.conftest import sdk


def without(name: str) -> dict[str, Any]:
    line = asked(CHAT, 90)
    del line[name]
    return line


def test_a_broken_file_fails_with_its_lines_named(client: Any) -> None:
    lines = [
        asked(CHAT, 1),
        "{not json",
        without("custom_id"),
        asked(CHAT, 1),
        {**asked(CHAT, 5), "method": "GET"},
        {**asked(CHAT, 6), "url": EMBEDDINGS},
        "",
        asked(CHAT, 8, temperature=9),
        asked(CHAT, 9, model="nobody"),
        asked(CHAT, 10, stream=True),
        asked(CHAT, 11, audio={"voice": "x"}),
        {**asked(CHAT, 12), "priority": 1},
        {**asked(CHAT, 13), "custom_id": 13},
        without("body"),
        asked(CHAT, 15, top_logprobs=3),
        "[]",
    ]
    batch = ended(client, begin(client, CHAT, lines).id)
    assert (batch.status, counts(batch)) == ("failed", (0, 0, 0))
    assert (batch.output_file_id, batch.error_file_id, batch.in_progress_at) == (None, None, None)
    assert batch.failed_at >= batch.created_at
    assert batch.errors.object == "list"
    told = [(error.line, error.code, error.param) for error in batch.errors.data]
    assert told == [
        (2, "invalid_json_line", None),
        (3, "missing_required_parameter", "custom_id"),
        (4, "duplicate_custom_id", "custom_id"),
        (5, "invalid_method", "method"),
        (6, "mismatched_endpoint", "url"),
        (8, "invalid_value", "body.temperature"),
        (9, "model_not_found", "body.model"),
        (10, "unsupported_parameter", "body.stream"),
        (11, "unsupported_parameter", "body.audio"),
        (12, "unknown_parameter", "priority"),
        (13, "invalid_custom_id", "custom_id"),
        (14, "missing_required_parameter", "body"),
        (15, "invalid_request", "body.top_logprobs"),
        (16, "invalid_json_line", None),
    ]
    assert all(error.message for error in batch.errors.data)


@pytest.mark.parametrize(
    ("endpoint", "fields", "param"),
    [
        (RESPONSES, {"stream": True}, "body.stream"),
        (RESPONSES, {"background": True}, "body.background"),
        (RESPONSES, {"model": "nobody"}, "body.model"),
        (RESPONSES, {"tools": [{"type": "web_search"}]}, "body.tools[0].type"),
        (EMBEDDINGS, {"model": "nobody"}, "body.model"),
        (EMBEDDINGS, {"input": []}, "body.input"),
    ],
)
def test_bodies_are_refused_as_their_routes_refuse_them(
    client: Any, endpoint: str, fields: dict[str, Any], param: str
) -> None:
    batch = ended(client, begin(client, endpoint, [asked(endpoint, 0), asked(endpoint, 1, **fields)]).id)
    assert [(error.line, error.param) for error in batch.errors.data] == [(2, param)]


def test_an_input_that_is_too_large_or_empty_is_refused(make_batches: MakeBatches) -> None:
    batches = make_batches({"bodies": {"json_bytes": 2048}}, lines=3, input_bytes=64 * 1024)
    with batches.gateway.serve() as url:
        client = sdk(url, batches.gateway)

        def fault(lines: list[Any]) -> tuple[int | None, str]:
            [error] = ended(client, begin(client, CHAT, lines).id).errors.data
            return error.line, error.code

        assert fault([asked(CHAT, number) for number in range(5)]) == (4, "too_many_requests")
        assert fault(["", "  "]) == (None, "empty_file")
        assert fault([asked(CHAT, 0), asked(CHAT, 1, user="x" * 3000)]) == (2, "line_too_long")
        with pytest.raises(openai.BadRequestError) as error:
            begin(client, CHAT, ["x" * 70_000])
        assert (error.value.param, error.value.code) == ("input_file_id", "file_too_large")


def test_faults_are_told_up_to_a_hundred(client: Any) -> None:
    batch = ended(client, begin(client, CHAT, ["{"] * 150).id)
    assert [error.line for error in batch.errors.data] == list(range(1, 101))
