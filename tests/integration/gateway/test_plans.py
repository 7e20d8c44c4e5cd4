"""``/cloister/v1/plans`` over HTTP."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
import yaml
from cloister_gateway.commands import open_directory
from cloister_gateway.planning.command import run
from cloister_gateway.storage.opening import open_storage
from cloister_gateway.usage import InputSplit
from cloister_gateway.usage.records import Row, Sum, Times, Whom
from cloister_gateway.usage.store import UsageStore
from openai import OpenAI

from tests.support.gateway import GatewayFixture


@pytest.mark.parametrize("admin", [False, True])
def test_whoever_has_a_key_may_plan(gateway: GatewayFixture, gateway_url: str, admin: bool) -> None:
    key = gateway.admin_key if admin else gateway.project_key
    with OpenAI(base_url=f"{gateway_url}/cloister/v1", api_key=key) as client:
        plan = client.post("/plans/usage", cast_to=httpx.Response, body={"users": 200}).json()
    assert plan["object"] == "cloister.usage_plan"
    assert plan["question"]["conversation"]["turns"] == len(plan["policies"]["all"]["turns"])
    headers = {"authorization": f"Bearer {key}"}
    drawn = httpx.post(f"{gateway_url}/cloister/v1/plans/usage?format=svg", json={"users": 200}, headers=headers)
    assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert drawn.text.startswith("<svg ")


def test_what_cannot_be_planned_is_refused_by_its_field(gateway: GatewayFixture, gateway_url: str) -> None:
    url = f"{gateway_url}/cloister/v1/plans/usage"
    headers = gateway.headers()
    for body, param in (({}, "users"), ({"users": 1, "price": {"gpu": 1}}, "price.gpu"), ({"users": 0}, "users")):
        refused = httpx.post(url, json=body, headers=headers)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert httpx.post(url, json={"users": 1}).status_code == 401
    assert httpx.post(f"{url}?format=png", json={"users": 1}, headers=headers).json()["error"]["param"] == "format"


def test_a_plan_from_what_was_used_is_for_administrators_and_says_where_there_is_nothing(
    gateway: GatewayFixture, gateway_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{gateway_url}/cloister/v1/plans/usage/observed"
    assert httpx.post(url, json={}, headers=gateway.headers()).status_code == 403
    admin = gateway.headers(gateway.admin_key)
    refused = httpx.post(url, json={"model": "nobody-asked-it"}, headers=admin)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    assert httpx.post(url, json={"users": 1}, headers=admin).json()["error"]["param"] == "users"
    day = int(time.time()) // 86_400 - 3
    asyncio.run(_write(gateway, [(day - ago) * 86_400 + 9 * 3600 for ago in range(34)]))
    body = httpx.post(url, json={"model": "planned", "price": {"gpu_hour": 3}}, headers=admin).json()
    said = body["question"]["conversation"]
    assert (said["turns"], said["system_tokens"], said["message_tokens"], said["answer_tokens"]) == (3, 20, 50, 100)
    assert (body["question"]["users"], body["question"]["price"]["gpu_hour"]) == (1, 3)
    # On each of five of the last seven days a conversation of three turns, of which the weeks before knew seven.
    assert body["observed"]["last_week"]["happened"]["requests"] == 3 * 5
    assert body["observed"]["last_week"]["error"]["requests"] > 0
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump(gateway.settings.model_dump(mode="json")))
    assert run(["--ledger", "--config", str(config), "--model", "planned"], open_directory) == 0
    assert "the last week's requests" in capsys.readouterr().out
    assert run(["--ledger"], open_directory) == 2
    assert "--config" in capsys.readouterr().err


async def _write(gateway: GatewayFixture, times: list[int]) -> None:
    """A conversation of three turns at each time, as the ledger has them."""
    settings = gateway.settings
    async with open_storage(settings.redis, settings.vault) as (redis, keyring), open_directory(settings) as directory:
        store, (project, *_) = UsageStore(redis, keyring, settings.usage), await directory.project_ids()
        for at in times:
            for turn in range(3):
                split = InputSplit(system=20, history=150 * turn, new=50)
                row = Row(
                    f"g{at}-{turn}",
                    project,
                    Whom("somebody", "key_1", "planned"),
                    "response",
                    None,
                    at,
                    Times(),
                    Sum.of_one(70 + 150 * turn, 0, 100, 0, split),
                    exact=True,
                    ending="completed",
                )
                await store.add(row)
