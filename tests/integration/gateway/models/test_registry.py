"""Models that an operator enters while gateways run: in force on all of them, sealed, and there after a restart."""

from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_common.vault import Keyring
from cloister_gateway.models.store import CatalogStore, Entry
from redis.asyncio import Redis

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

PATH = "/cloister/v1/models"


@pytest.fixture
def pod() -> Iterator[str]:
    with served(FakeLlm(token=INTERNAL_TOKEN)) as url:
        yield url


@pytest.fixture
def operator(fresh_gateway: GatewayFixture, fresh_url: str) -> Iterator[httpx.Client]:
    headers = fresh_gateway.headers(fresh_gateway.admin_key)
    with httpx.Client(base_url=fresh_url, headers=headers, timeout=30) as client:
        yield client


def listed(url: str, gateway: GatewayFixture) -> dict[str, dict[str, Any]]:
    models = httpx.get(f"{url}/v1/models", headers=gateway.headers(), timeout=30).json()["data"]
    return {model["id"]: model["cloister"] for model in models}


def ask(url: str, gateway: GatewayFixture, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=gateway.headers(), timeout=30).status_code


def test_an_entered_model_is_served_by_every_gateway_and_after_a_restart_until_it_is_removed(
    fresh_gateway: GatewayFixture, fresh_url: str, operator: httpx.Client, pod: str, redis_server: RedisServer
) -> None:
    entry = {"name": "house/own", "urls": [pod], "context_tokens": 1024, "tools": False, "temperature": 0.5}
    with fresh_gateway.serve() as other:
        assert ask(other, fresh_gateway, "house/own") == 404
        entered = operator.post(PATH, json=entry).json()
        assert (entered["origin"], entered["in_force"], entered["ready"]) == ("administration", True, True)
        assert (entered["urls"], entered["capabilities"]) == ([pod], ["chat", "reasoning"])
        assert ask(fresh_url, fresh_gateway, "house/own") == 200, "here at once"
        wait_until(lambda: ask(other, fresh_gateway, "house/own") == 200)
        assert operator.get(f"{PATH}/house/own").json() == entered
        assert operator.post(PATH, json={**entry, "context_tokens": 512}).json()["created_at"] == entered["created_at"]
        wait_until(lambda: listed(other, fresh_gateway)["house/own"]["context_tokens"] == 512)
    with fresh_gateway.serve() as restarted:
        assert listed(restarted, fresh_gateway)["house/own"]["ready"]
        assert operator.delete(f"{PATH}/house/own").json()["deleted"]
        assert ask(fresh_url, fresh_gateway, "house/own") == 404
        wait_until(lambda: ask(restarted, fresh_gateway, "house/own") == 404)
    assert operator.delete(f"{PATH}/house/own").status_code == 404
    assert operator.get(f"{PATH}/house/own").status_code == 404


def test_models_of_the_settings_are_shown_and_not_changed(
    fresh_gateway: GatewayFixture, operator: httpx.Client, pod: str
) -> None:
    (model,) = operator.get(PATH).json()["data"]
    assert (model["name"], model["origin"], model["in_force"]) == ("fake", "settings", True)
    for answer in (
        operator.post(PATH, json={"name": "fake", "urls": [pod], "context_tokens": 1024}),
        operator.delete(f"{PATH}/fake"),
    ):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (409, "model_in_settings")
        assert "models.fake" in error["message"]


def test_a_model_of_some_projects_exists_for_those_alone(
    fresh_gateway: GatewayFixture, fresh_url: str, operator: httpx.Client, pod: str
) -> None:
    entry = {"name": "own", "urls": [pod], "context_tokens": 1024}
    operator.post(PATH, json={**entry, "projects": ["proj_other"]}).raise_for_status()
    assert "own" not in listed(fresh_url, fresh_gateway)
    assert ask(fresh_url, fresh_gateway, "own") == 404
    operator.post(PATH, json=entry).raise_for_status()
    assert ask(fresh_url, fresh_gateway, "own") == 200


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"context_tokens": 1}, "context_tokens"),
        ({"urls": []}, None),
        ({"service": "http://llm"}, None),
        ({"urls": ["ftp://x"]}, "urls[0]"),
        ({"mode": "wild"}, "mode"),
        ({"mode": "serverless"}, None),
        ({"kubernetes": {"namespace": "chat", "labels": {"a": "b,c=d"}}, "urls": []}, "kubernetes.labels.a"),
        ({"projects": "proj_a"}, "projects"),
        ({"name": "with a blank"}, "name"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_a_wrong_entry_is_refused_by_the_name_of_its_field(
    wrong: dict[str, Any], param: str | None, operator: httpx.Client
) -> None:
    answer = operator.post(PATH, json={"name": "m", "urls": ["http://pod"], "context_tokens": 1024, **wrong})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert [model["name"] for model in operator.get(PATH).json()["data"]] == ["fake"]


def test_a_projects_key_neither_sees_nor_changes_the_catalog(fresh_gateway: GatewayFixture, fresh_url: str) -> None:
    for method, path in (("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/fake"), ("GET", f"{PATH}/fake")):
        answer = httpx.request(method, f"{fresh_url}{path}", headers=fresh_gateway.headers(), json={}, timeout=30)
        assert answer.status_code == 403


async def test_what_is_entered_is_sealed_in_redis_and_opens_again(redis: Redis, keyring: Keyring) -> None:
    store = CatalogStore(redis, keyring)
    fields = {"urls": ["http://secret-pod:1"], "context_tokens": 1024}

    def entered(entries: dict[str, Entry]) -> dict[str, Entry]:
        return {**entries, f"model {len(entries)}": Entry(fields, 7)}

    for _ in range(2):
        await store.change(entered)
    assert await store.read() == {"model 0": Entry(fields, 7), "model 1": Entry(fields, 7)}
    stored: bytes = b"".join([cast("bytes", await redis.get(name)) async for name in redis.scan_iter("catalog:*")])
    assert b"secret-pod" not in stored
    assert len(stored) > 100
