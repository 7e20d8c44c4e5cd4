"""What the real retriever embeds for a file is in the gateway's limits and rows, once."""

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from tests.support.gateway import GatewayFixture, first_keys, gateway_settings, secret_file
from tests.support.redis_server import RedisServer
from tests.support.retriever import RETRIEVER_TOKEN
from tests.support.sdk import closing
from tests.support.waiting import wait_until

WORDS = 40


class Behind(NamedTuple):
    """A gateway before the real retriever."""

    gateway: GatewayFixture
    url: str

    @property
    def client(self) -> openai.OpenAI:
        return closing(openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.gateway.project_key, max_retries=0))

    def embedded(self) -> tuple[int, int]:
        """Ingestions among the rows, and their tokens."""
        admin: Any = closing(
            openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", admin_api_key=self.gateway.admin_key)
        ).admin.organization
        page = admin.usage.embeddings(start_time=int(time.time()) - 86_400)
        used = [result for bucket in page.data for result in bucket.results]
        return sum(one.num_model_requests for one in used), sum(one.input_tokens for one in used)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    redis = RedisServer(tmp_path)
    redis.start()
    yield redis
    redis.stop()


@contextlib.contextmanager
def behind(folder: Path, redis: RedisServer, retriever: str, **rule: Any) -> Iterator[Behind]:
    settings = gateway_settings(
        folder,
        redis,
        retriever={"url": retriever, "token_file": str(secret_file(folder, "retriever-token", RETRIEVER_TOKEN))},
        limits={"rules": {"r": {"level": "project", **rule}} if rule else {}},
    )
    gateway = first_keys(settings)
    with gateway.serve() as url:
        yield Behind(gateway, url)


def attach(client: openai.OpenAI, text: str) -> Any:
    """A file in a store of its own, when its ingestion has ended."""
    file = client.files.create(file=("a.txt", io.BytesIO(text.encode())), purpose="assistants")
    store = client.vector_stores.create()
    client.vector_stores.files.create(store.id, file_id=file.id)

    def ended() -> Any:
        found = client.vector_stores.files.retrieve(file.id, vector_store_id=store.id)
        return found if found.status != "in_progress" else None

    return wait_until(ended, seconds=60, what="the file has ended")


@pytest.mark.parametrize("rule", [{}, {"per": "day", "tokens": 100_000}], ids=["", "limited"])
def test_a_file_is_one_row_of_the_tokens_that_its_embedder_counted(
    real_url: str, redis: RedisServer, tmp_path: Path, rule: dict[str, Any]
) -> None:
    with behind(tmp_path, redis, real_url, **rule) as all_of_it:
        assert attach(all_of_it.client, " ".join(["word"] * WORDS)).status == "completed"
        wait_until(lambda: all_of_it.embedded()[0], what="its row is written")
        # The stand-in for the embedder takes a word for a token, and adds two to each text.
        assert all_of_it.embedded() == (1, WORDS + 2)


def test_a_file_that_is_over_a_limit_of_its_project_says_so(real_url: str, redis: RedisServer, tmp_path: Path) -> None:
    with behind(tmp_path, redis, real_url, per="day", tokens=20) as all_of_it:
        told = attach(all_of_it.client, " ".join(["word"] * WORDS))
        assert (told.status, told.last_error.code) == ("failed", "rate_limit_exceeded")
        assert "20 tokens per day" in told.last_error.message
        assert all_of_it.embedded() == (0, 0)
