"""OpenAI's batch object, and what is kept to make it."""

import pytest
from cloister_common.errors import InvalidRequest
from cloister_gateway.batches.files import file_ids
from cloister_gateway.batches.records import BatchCaller, BatchRecord, BatchState, LineFault, StoredBatch, Tokens
from cloister_gateway.batches.schemas import batch_body, window_seconds
from cloister_gateway.identity.principal import Credential, Principal

from tests.support.openai_schema.checker import SCHEMA

PRINCIPAL = Principal(
    "proj_a", "svc", Credential("api_key", "key_1", 99), frozenset({"chat"}), frozenset({"staff"}), "ana"
)
RECORD = BatchRecord(
    endpoint="/v1/responses",
    input_file_id="file-1",
    input_bytes=10,
    completion_window="24h",
    created_at=100,
    expires_at=200,
    metadata=None,
    file_seconds=None,
    caller=BatchCaller.of(PRINCIPAL),
)


def body(state: BatchState, cancelling_at: int | None = None) -> dict[str, object]:
    return batch_body(StoredBatch("batch_1", RECORD, state, cancelling_at, 2, 1))


def test_who_created_a_batch_is_who_asks_for_its_lines() -> None:
    assert RECORD.caller.principal("proj_a") == PRINCIPAL


@pytest.mark.parametrize(
    ("state", "cancelling_at", "status"),
    [
        (BatchState(), None, "validating"),
        (BatchState(), 150, "cancelling"),
        (BatchState(status="in_progress", total=3, in_progress_at=110), None, "in_progress"),
        (BatchState(status="finalizing", ending="cancelled", total=3, finalizing_at=1), 150, "cancelling"),
        (BatchState(status="cancelled", ending="cancelled", total=3, ended_at=160), 150, "cancelled"),
        (BatchState(status="expired", ending="expired", ended_at=200, usage=Tokens(read=1)), None, "expired"),
        (BatchState(status="failed", errors=(LineFault(code="c", message="m", line=2),), ended_at=1), None, "failed"),
    ],
)
def test_every_state_is_openais_object(state: BatchState, cancelling_at: int | None, status: str) -> None:
    made = body(state, cancelling_at)
    assert SCHEMA.faults(SCHEMA.roots["Batch"], made) == []
    assert made["status"] == status
    assert made["request_counts"] == {"total": state.total, "completed": 2, "failed": 1}


def test_files_are_shown_when_they_are_whole() -> None:
    closing = file_ids(BatchState(status="finalizing", ending="completed", total=3), 2, 1)
    assert closing.output_file_id is not None
    assert closing.error_file_id is not None
    assert (body(closing)["output_file_id"], body(closing)["error_file_id"]) == (None, None)
    ended = closing.model_copy(update={"status": "completed", "ended_at": 5})
    assert body(ended)["output_file_id"] == closing.output_file_id


@pytest.mark.parametrize(
    ("ending", "counted", "files"),
    [
        ("completed", (3, 0), (True, False)),
        ("completed", (0, 3), (False, True)),
        ("expired", (1, 0), (True, True)),
        ("cancelled", (0, 0), (False, True)),
        ("failed", (1, 0), (True, False)),
    ],
)
def test_a_file_is_made_where_there_is_something_to_write(
    ending: str, counted: tuple[int, int], files: tuple[bool, bool]
) -> None:
    state = file_ids(BatchState.model_validate({"ending": ending, "total": 3}), *counted)
    assert (state.output_file_id is not None, state.error_file_id is not None) == files


@pytest.mark.parametrize(
    ("window", "seconds"), [("24h", 86_400), ("7d", 604_800), ("90m", 5400), ("2s", 2), ("168h", 604_800)]
)
def test_windows_are_read(window: str, seconds: int) -> None:
    assert window_seconds(window) == seconds


@pytest.mark.parametrize("window", ["", "24", "0h", "h", "24H", "8d", "-1h", "1.5h", "9999999d", "24h "])
def test_other_windows_are_refused(window: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        window_seconds(window)
    assert error.value.param == "completion_window"
