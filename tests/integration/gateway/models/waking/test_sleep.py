"""A model that sleeps while nobody uses it: its pod stays, and is woken by the next request."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.models.waking import service

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture
from tests.support.waiting import wait_until

CHAT: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = "Hello, this is the fake."


@pytest.fixture
def pods() -> list[FakeLlm]:
    """The model's two pods."""
    return [FakeLlm(token=INTERNAL_TOKEN) for _ in range(2)]


@pytest.fixture
def sleepy(
    make_gateway: Callable[..., GatewayFixture], pods: list[FakeLlm], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., GatewayFixture]]:
    monkeypatch.setattr(service, "_LOOK_SECONDS", 0.05)
    with served(pods[0]) as one, served(pods[1]) as two:

        def make(**waking: Any) -> GatewayFixture:
            entry = {"urls": [one, two], "context_tokens": 2048, "mode": "sleep"}
            return make_gateway(models={"fake": {**entry, "waking": {"idle_seconds": 0.3, "sleep_level": 2, **waking}}})

        yield make


def test_an_idle_model_sleeps_on_all_pods_and_is_woken_by_the_next_request(
    sleepy: Callable[..., GatewayFixture], pods: list[FakeLlm]
) -> None:
    gateway = sleepy()
    with gateway.serve() as url, gateway.serve() as other:
        for _ in range(3):
            wait_until(lambda: [pod.sleeping for pod in pods] == [2, 2], what="both sleep")
            kinds = [
                event.type for event in sdk(other, gateway).responses.create(model="fake", input="hi", stream=True)
            ]
            assert "response.queued" in kinds
            assert kinds[-1] == "response.completed"
            assert sdk(url, gateway).chat.completions.create(**CHAT).choices[0].message.content == ANSWER


def test_a_pod_that_computes_does_not_sleep(sleepy: Callable[..., GatewayFixture], pods: list[FakeLlm]) -> None:
    gateway = sleepy()
    for pod in pods:
        pod.hold_after = 1
    with gateway.serve() as url, gateway.serve():
        asked = sdk(url, gateway).responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: sum(pod.running for pod in pods) == 1)
        for pod in pods:
            pod.release()
        wait_until(lambda: all(pod.sleeping for pod in pods))
        assert sdk(url, gateway).responses.retrieve(asked.id).status == "completed"


def test_pods_that_do_not_wake_are_a_503_that_says_so(
    sleepy: Callable[..., GatewayFixture], pods: list[FakeLlm]
) -> None:
    for pod in pods:
        pod.wakes, pod.sleeping = False, 2
    gateway = sleepy(deadline_seconds=2.5)
    with gateway.serve() as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=gateway.headers(), timeout=60)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "model_not_ready")
        assert "a pod loads it (loading)" in error["message"]
