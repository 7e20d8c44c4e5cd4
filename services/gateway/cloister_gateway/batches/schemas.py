"""What a caller may send to create a batch, and OpenAI's batch object.

Source: OpenAI API reference, "Batch".
"""

import re
from typing import Annotated, Any, Literal, get_args

from cloister_common.errors import InvalidRequest
from pydantic import Field

from cloister_gateway.batches.records import Ending, LineFault, StoredBatch, Tokens
from cloister_gateway.wire.strict import Metadata, Strict, only

__all__ = ["ENDPOINTS", "BatchCreate", "batch_body", "window_seconds"]

ENDPOINTS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings")

_WINDOW = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_WINDOW = 7 * 86_400
_LEAST_SECONDS, _MOST_SECONDS = 3600, 30 * 86_400
"""OpenAI's bounds on how long a file that expires may live."""


class OutputExpiresAfter(Strict):
    """When the files that a batch writes expire."""

    anchor: Literal["created_at"] = Field(description="`created_at`, which is when the file was made.")
    seconds: int = Field(ge=_LEAST_SECONDS, le=_MOST_SECONDS, description="From an hour to 30 days.")


class BatchCreate(Strict):
    """Body of ``POST /v1/batches``."""

    input_file_id: str = Field(
        min_length=1, max_length=128, description="A file of purpose `batch`: [its lines](batches.md#lines)."
    )
    endpoint: Annotated[Literal["/v1/chat/completions", "/v1/responses", "/v1/embeddings"], only(*ENDPOINTS)] = Field(
        description="`/v1/chat/completions`, `/v1/responses` or `/v1/embeddings`."
    )
    completion_window: str = Field(
        max_length=16, description="`24h`, or any other number of minutes, hours or days up to `7d`."
    )
    metadata: Metadata | None = None
    output_expires_after: OutputExpiresAfter | None = Field(
        None, description="Of the output and the error file. They stay until they are deleted otherwise."
    )


def window_seconds(window: str) -> int:
    """The seconds of a completion window.

    Raises:
        InvalidRequest: It is none.
    """
    found = _WINDOW.fullmatch(window)
    seconds = 0 if found is None else int(found[1]) * _UNITS[found[2]]
    if not 0 < seconds <= _LONGEST_WINDOW:
        raise InvalidRequest(
            "'completion_window' must be a number of minutes, hours or days, like '24h', and 7 days at most.",
            param="completion_window",
        )
    return seconds


def batch_body(stored: StoredBatch) -> dict[str, Any]:
    """The batch, with all fields that OpenAI's object has."""
    record, state = stored.record, stored.state
    return {
        "id": stored.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": state.model,
        "errors": {"object": "list", "data": [_error(fault) for fault in state.errors]} if state.errors else None,
        "input_file_id": record.input_file_id,
        "completion_window": record.completion_window,
        "status": stored.status,
        "output_file_id": state.output_file_id if state.ended else None,
        "error_file_id": state.error_file_id if state.ended else None,
        "created_at": record.created_at,
        "in_progress_at": state.in_progress_at,
        "expires_at": record.expires_at,
        "finalizing_at": state.finalizing_at,
        "cancelling_at": stored.cancelling_at,
        **{f"{ending}_at": state.ended_at if state.status == ending else None for ending in get_args(Ending)},
        "request_counts": {"total": state.total, "completed": stored.completed, "failed": stored.failed},
        "usage": None if state.usage is None else _usage(state.usage),
        "metadata": record.metadata,
    }


def _error(fault: LineFault) -> dict[str, Any]:
    return {"code": fault.code, "line": fault.line, "message": fault.message, "param": fault.param}


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "input_tokens": tokens.read,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.written,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.read + tokens.written,
    }
