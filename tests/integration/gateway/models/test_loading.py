"""A model of which no pod is ready: questions wait for it, are told so, and end honestly if it never comes."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import free_port, served
from prometheus_client import REGISTRY

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, secret_file
from tests.support.waiting import wait_until

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def port() -> int:
    """Where the pod will be."""
    return free_port()


@pytest.fixture
def waiting(make_gateway: Callable[..., GatewayFixture], port: int, tmp_path: Path) -> Callable[..., GatewayFixture]:
    def make(**llm: Any) -> GatewayFixture:
        entry = {"urls": [f"http://127.0.0.1:{port}"], "context_tokens": 2048}
        token = secret_file(tmp_path, "token", INTERNAL_TOKEN)
        return make_gateway(
            models={"fake": entry}, llm={"token_file": str(token), "connect_seconds": 0.2, "outage_seconds": 0.1, **llm}
        )

    return make


def waits() -> float:
    return REGISTRY.get_sample_value("cloister_llm_loading_waits", {"model": "fake"}) or 0.0


@pytest.fixture
def loading_pod(port: int) -> Iterator[Callable[[], None]]:
    """Lets the pod come, once a request waits for it."""
    gone = threading.Event()
    threads: list[threading.Thread] = []

    def serve() -> None:
        with served(FakeLlm(token=INTERNAL_TOKEN), port):
            gone.wait()

    def come() -> None:
        thread = threading.Thread(target=serve)
        threads.append(thread)
        thread.start()

    yield come
    gone.set()
    for thread in threads:
        thread.join()


def test_a_response_waits_with_queued_until_its_model_is_ready(
    waiting: Callable[..., GatewayFixture], loading_pod: Callable[[], None]
) -> None:
    gateway = waiting()
    with gateway.serve() as url:
        kinds = []
        for event in sdk(url, gateway).responses.create(model="fake", input="hi", stream=True):
            kinds.append(event.type)
            assert event.sequence_number == len(kinds) - 1
            if event.type == "response.queued":
                assert event.response.status == "queued"
                models = httpx.get(f"{url}/v1/models", headers=gateway.headers(), timeout=30).json()["data"]
                assert [model["cloister"]["ready"] for model in models] == [False]
                loading_pod()
        assert kinds[:4] == ["response.created", "response.in_progress", "response.queued", "response.in_progress"]
        assert kinds[-1] == "response.completed"
        assert waits() == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_waits_until_its_model_is_ready(
    stream: bool, waiting: Callable[..., GatewayFixture], loading_pod: Callable[[], None]
) -> None:
    gateway = waiting()
    with gateway.serve() as url:
        answers: list[httpx.Response] = []

        def ask() -> None:
            body = {**CHAT, "stream": stream}
            answers.append(httpx.post(f"{url}/v1/chat/completions", json=body, headers=gateway.headers(), timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: waits() == 1)
        loading_pod()
        asking.join()
        assert answers[0].status_code == 200


def test_a_model_that_never_comes_is_a_503_that_says_what_was_reached(
    waiting: Callable[..., GatewayFixture],
) -> None:
    gateway = waiting(loading_seconds=0.2)
    with gateway.serve() as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=gateway.headers(), timeout=60)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "model_not_ready")
        assert "none of its 1 pods accepts connections" in error["message"]
        assert int(answer.headers["retry-after"]) > 0
        response = sdk(url, gateway).responses.create(model="fake", input="hi")
        assert response.status == "failed"
        assert "none of its 1 pods accepts connections" in response.error.message


def test_no_more_wait_than_may_and_who_leaves_waits_no_longer(waiting: Callable[..., GatewayFixture]) -> None:
    gateway = waiting(loading_waits=1)
    with gateway.serve() as url:
        client = sdk(url, gateway)
        first = client.responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: waits() == 1)
        with pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(**CHAT)
        assert (refused.value.status_code, refused.value.code) == (503, "model_not_ready")
        assert client.responses.cancel(first.id).status == "cancelled"
        wait_until(lambda: waits() == 0)
