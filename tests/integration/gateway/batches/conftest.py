"""Batches over a Redis of their own, with the embedder's and the retriever's fakes behind the gateways."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.serving import served

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, secret_file
from tests.support.waiting import wait_until

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
MINILM = "all-MiniLM-L6-v2"
ENDED = {"completed", "failed", "expired", "cancelled"}


@dataclasses.dataclass(frozen=True)
class Batches:
    """An installation whose gateways do batches."""

    gateway: GatewayFixture
    llm: FakeLlm
    retriever: FakeRetriever


MakeBatches = Callable[..., Batches]


@pytest.fixture
def make_batches(make_gateway: Callable[..., GatewayFixture], llm: FakeLlm, tmp_path: Path) -> Iterator[MakeBatches]:
    """Makes one; keyword arguments are settings of batches."""
    retriever = FakeRetriever(INTERNAL_TOKEN)
    token = str(secret_file(tmp_path / "secrets", "token", INTERNAL_TOKEN))
    with contextlib.ExitStack() as stack:

        def make(sections: dict[str, Any] | None = None, **settings: Any) -> Batches:
            behind = {
                "embedder": {
                    "url": stack.enter_context(served(FakeEmbedder(token=INTERNAL_TOKEN))),
                    "token_file": token,
                },
                "retriever": {"url": stack.enter_context(served(retriever)), "token_file": token},
            }
            return Batches(make_gateway(batches=settings, **behind, **(sections or {})), llm, retriever)

        yield make


@pytest.fixture
def batches(make_batches: MakeBatches) -> Batches:
    """One as it comes, but that a line is tried again at once."""
    return make_batches(retry_seconds=0.05)


@pytest.fixture
def url(batches: Batches) -> Iterator[str]:
    """A gateway of it."""
    with batches.gateway.serve() as served_url:
        yield served_url


@pytest.fixture
def client(batches: Batches, url: str) -> Any:
    """The SDK at it."""
    return sdk(url, batches.gateway)


def asked(endpoint: str, number: int, **fields: Any) -> dict[str, Any]:
    """A request of a batch: the line of that number."""
    bodies: dict[str, dict[str, Any]] = {
        CHAT: {"model": "fake", "messages": [{"role": "user", "content": f"question {number}"}]},
        RESPONSES: {"model": "fake", "input": f"question {number}"},
        EMBEDDINGS: {"model": MINILM, "input": f"text {number}"},
    }
    return {
        "custom_id": f"request-{number}",
        "method": "POST",
        "url": endpoint,
        "body": {**bodies[endpoint], **fields},
    }


def upload(client: Any, lines: Sequence[Any]) -> str:
    """The input file of these lines: requests, or text as it is."""
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    file_id: str = client.files.create(file=("input.jsonl", text.encode()), purpose="batch").id
    return file_id


def begin(client: Any, endpoint: str, lines: Sequence[Any], **fields: Any) -> Any:
    """A batch of these lines."""
    return client.batches.create(
        **{"input_file_id": upload(client, lines), "endpoint": endpoint, "completion_window": "24h", **fields}
    )


def ended(client: Any, batch_id: str, *, seconds: float = 60) -> Any:
    """The batch, once it has ended."""
    return wait_until(
        lambda: (now := client.batches.retrieve(batch_id)).status in ENDED and now,
        seconds=seconds,
        what="the end of the batch",
        every=0.05,
    )


def lines_of(client: Any, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file of a batch; none if there is no file."""
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def ids(lines: Sequence[dict[str, Any]]) -> list[str]:
    """What lines are called."""
    return [line["custom_id"] for line in lines]


def counts(batch: Any) -> tuple[int, int, int]:
    """Total, completed, failed."""
    return (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed)
