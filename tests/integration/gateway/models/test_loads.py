"""Several pods of one model: what they say of themselves decides which gets the next request."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import free_port, served

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture
from tests.support.waiting import wait_until


@pytest.fixture
def pods() -> list[FakeLlm]:
    return [FakeLlm(token=INTERNAL_TOKEN) for _ in range(2)]


@pytest.fixture
def chat(make_gateway: Callable[..., GatewayFixture], pods: list[FakeLlm]) -> Iterator[Callable[[str], FakeLlm]]:
    """Asks for an answer with an affinity, and gives the pod that was asked for it."""
    with served(pods[0]) as first, served(pods[1]) as second:
        gateway = make_gateway(models={"fake": {"urls": [first, second], "context_tokens": 2048}})
        with gateway.serve() as url, httpx.Client(base_url=url, headers=gateway.headers(), timeout=30) as client:

            def ask(affinity: str) -> FakeLlm:
                before = [len(pod.chats()) for pod in pods]
                body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}], "prompt_cache_key": affinity}
                client.post("/v1/chat/completions", json=body).raise_for_status()
                (asked,) = [pod for pod, count in zip(pods, before, strict=True) if len(pod.chats()) > count]
                return asked

            yield ask


@pytest.mark.parametrize("sign", ["ending", "waiting"])
def test_a_pod_that_ends_or_has_a_queue_gets_nothing_new(
    sign: str, chat: Callable[[str], FakeLlm], pods: list[FakeLlm]
) -> None:
    home = chat("conversation")
    assert chat("conversation") is home
    (other,) = [pod for pod in pods if pod is not home]
    setattr(home, sign, True if sign == "ending" else 9)
    wait_until(lambda: chat("conversation") is other)
    assert all(chat(f"conversation {number}") is other for number in range(6))
    setattr(home, sign, False if sign == "ending" else 0)
    wait_until(lambda: chat("conversation") is home)


def test_models_say_whether_they_are_ready_and_exist_for_their_projects_alone(
    make_gateway: Callable[..., GatewayFixture],
) -> None:
    with served(FakeLlm(token=INTERNAL_TOKEN)) as here:
        away = f"http://127.0.0.1:{free_port()}"
        gateway = make_gateway(
            models={
                "here": {"urls": [here], "context_tokens": 2048},
                "away": {"urls": [away], "context_tokens": 2048},
                "plain": {"urls": [here], "context_tokens": 2048, "tools": False, "reasoning": False},
                "secret": {"urls": [here], "context_tokens": 2048, "projects": ["proj_other"]},
            }
        )
        with gateway.serve() as url, httpx.Client(base_url=url, headers=gateway.headers(), timeout=30) as client:
            listed = client.get("/v1/models").json()["data"]
            chats: dict[str, Any] = {one["id"]: one for one in listed if one["cloister"].get("kind") == "chat"}
            assert {name: one["cloister"]["ready"] for name, one in chats.items()} == {
                "here": True,
                "away": False,
                "plain": True,
            }
            assert [chats[name]["cloister"]["capabilities"] for name in ("here", "plain")] == [
                ["chat", "reasoning", "tools"],
                ["chat"],
            ]
            assert client.get("/v1/models/here").json() == chats["here"]
            for path, body in (
                ("/v1/models/secret", None),
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
                ("/v1/completions", {"prompt": "hi"}),
                ("/v1/responses", {"input": "hi"}),
            ):
                answers = []
                for name in ("secret", "absent"):
                    if body is None:
                        answers.append(client.get(path.replace("secret", name)))
                    else:
                        answers.append(client.post(path, json={"model": name, **body}))
                assert [answer.status_code for answer in answers] == [404, 404]
                assert answers[0].text.replace("secret", "absent") == answers[1].text


def test_functions_of_a_model_that_calls_none_are_refused_by_name(make_gateway: Callable[..., GatewayFixture]) -> None:
    with served(FakeLlm(token=INTERNAL_TOKEN)) as here:
        gateway = make_gateway(models={"plain": {"urls": [here], "context_tokens": 2048, "tools": False}})
        function = {"name": "look", "parameters": {"type": "object", "properties": {}}}
        with gateway.serve() as url, httpx.Client(base_url=url, headers=gateway.headers(), timeout=30) as client:
            for path, body in (
                (
                    "/v1/chat/completions",
                    {
                        "messages": [{"role": "user", "content": "hi"}],
                        "tools": [{"type": "function", "function": function}],
                    },
                ),
                ("/v1/responses", {"input": "hi", "tools": [{"type": "function", **function}]}),
            ):
                error = client.post(path, json={"model": "plain", **body}).json()["error"]
                assert (error["code"], error["param"]) == ("unsupported_parameter", "tools")
                client.post(path, json={"model": "plain", **body, "tools": []}).raise_for_status()
