"""What stands costs money whether or not it is asked: pods by the minute, vector stores by what they keep."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.limit_settings import PriceSettings, UsageSettings
from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.pods import Pod, Pods
from cloister_gateway.usage.costs import Tariff, costs_of, unit_costs
from cloister_gateway.usage.queries import Group
from cloister_gateway.usage.standing import Standing
from cloister_gateway.usage.standing_store import PodMinutes, StandingStore
from cloister_gateway.usage.store import UsageStore
from redis.asyncio import Redis

from tests.support.gateway import INTERNAL_TOKEN, first_keys, gateway_settings
from tests.support.redis_server import RedisServer
from tests.support.sdk import closing
from tests.support.waiting import wait_until

MINUTE = 29_833_333
MONTH = time.strftime("%Y%m", time.gmtime(MINUTE * 60))
HOUR = MINUTE // 60 * 3600


@pytest.fixture
def store(redis: Redis, tmp_path: Path) -> StandingStore:
    (tmp_path / "root").write_text("0123456789abcdef" * 4)
    keyring = Keyring("gateway", FileRootKey(tmp_path / "root"), MemoryKeyStore())
    return StandingStore(redis, UsageStore(redis, keyring, UsageSettings()))


class Gateway:
    """What a gateway knows of pods, and its task, whose clock the test sets."""

    def __init__(self, store: StandingStore, pods: int, *, kept: int = 0) -> None:
        urls = [f"http://pod-{number}:1" for number in range(pods)]
        self.pods = Pods(urls, outage_seconds=1)
        self.seconds = MINUTE * 60.0
        self.asked: list[str] = []

        async def projects() -> list[str]:
            return ["proj_1", "proj_2"]

        async def bytes_of(project: str) -> int:
            self.asked.append(project)
            return kept

        catalog = Catalog([ChatModel("big", 2048, 100), ChatModel("idle", 2048, 100)])
        fleet: Any = {"big": self.pods, "idle": Pods(["http://other:1"], outage_seconds=1)}
        self.standing = Standing(store, catalog, fleet, projects=projects, kept=bytes_of, now=lambda: self.seconds)

    async def at(self, seconds: float, *working: int) -> None:
        """Looks at a time, while these pods have something to do."""
        self.seconds = MINUTE * 60 + seconds
        begun: list[Pod] = [self.pods.all[number] for number in working]
        for pod in begun:
            self.pods.begin(pod, 10)
        await self.standing.look_at_pods()
        await self.standing.look_at_kept()
        for pod in begun:
            self.pods.end(pod, 10)


async def test_a_minute_of_pods_is_counted_once_and_by_what_any_gateway_had_them_do(store: StandingStore) -> None:
    gateways = [Gateway(store, 3) for _ in range(3)]
    await asyncio.gather(*(gateway.at(5) for gateway in gateways))
    # The first is at work for one gateway, then for another one; the second for the third one only.
    await gateways[0].at(20, 0)
    await gateways[1].at(30, 0)
    await gateways[2].at(40, 1)
    await asyncio.gather(*(gateway.at(61) for gateway in gateways))
    await asyncio.gather(*(gateway.at(85) for gateway in gateways))
    found = await store.pod_minutes([MONTH])
    # (With the two minutes before, in which nothing was asked.)
    assert found == {HOUR: {"big": PodMinutes(3 * 3, 2), "idle": PodMinutes(3, 0)}}
    # The next minutes, of which nobody counts the first: all were there meanwhile.
    await gateways[1].at(4 * 60 + 30)
    assert (await store.pod_minutes([MONTH]))[HOUR]["big"] == PodMinutes(3 * 6, 2)


async def test_what_is_kept_is_looked_at_by_one_gateway_an_hour(store: StandingStore) -> None:
    gateways = [Gateway(store, 1, kept=700) for _ in range(3)]
    await asyncio.gather(*(gateway.at(10) for gateway in gateways))
    assert not any(gateway.asked for gateway in gateways)
    await asyncio.gather(*(gateway.at(70) for gateway in gateways))
    assert sorted(project for gateway in gateways for project in gateway.asked) == ["proj_1", "proj_2"]
    found = await store.kept(["proj_1", "proj_2", "proj_3"], [MONTH])
    assert sorted(found) == [("proj_1", HOUR, 700), ("proj_2", HOUR, 700)]


def test_costs_of_pods_are_shared_by_work_and_idle_time_is_told_apart() -> None:
    prices = {"big": PriceSettings(gpu_hour=3.0, gpus=2, input=99.0), "small": PriceSettings(input=1.0, output=2.0)}
    tariff = Tariff(prices, "EUR", {"tuned": "big"})
    one, two, other = (Group(project, None, None, model) for project, model in _WHOSE)
    sums = {one: (1, 1000, 400, 150, 0), two: (1, 250, 0, 0, 0), other: (9, 10**6, 0, 10**6, 0)}
    minutes = {"big": PodMinutes(180, 60), "free": PodMinutes(60, 60)}
    lines = {(cost.group.project_id, cost.item): cost for cost in costs_of(sums, tariff, minutes, {"big": 1000})}
    # 60 minutes of pods with two GPUs each at 3.00 an hour, of which three quarters and a quarter.
    assert lines["p1", "big, GPU in use"].value == pytest.approx(4.5)
    assert lines["p2", "tuned, GPU in use"].value == pytest.approx(1.5)
    assert lines[None, "big, GPU idle"].value == pytest.approx(12.0)
    assert lines[None, "big, GPU idle"].quantity == pytest.approx(4.0)
    assert (lines["p1", "small, input"].value, lines["p1", "small, output"].value) == (1.0, 2.0)
    assert len(lines) == 5
    each = unit_costs(sums, tariff, minutes, {"big": 1000})
    assert each[one].body() == {
        "tokens": 1150,
        "cost_in_use": 4.5,
        "cost_reserved": 13.5,
        "per_million_tokens_in_use": pytest.approx(4.5 / 1150 * 1e6),
        "per_million_tokens_reserved": pytest.approx(13.5 / 1150 * 1e6),
    }
    assert (each[other].in_use, each[other].reserved, each[other].tokens) == (3.0, 3.0, 2 * 10**6)
    # Of a part of what was used it is the same, and the idle time is not its.
    part = costs_of({two: sums[two]}, tariff, minutes, {"big": 1000}, whole=False)
    assert [cost.item for cost in part] == ["tuned, GPU in use"]
    assert part[0].value == pytest.approx(1.5)


_WHOSE = (("p1", "big"), ("p2", "tuned"), ("p1", "small"))


@pytest.fixture
def server(_redis_process: RedisServer) -> RedisServer:
    _redis_process.flush()
    return _redis_process


def test_what_vector_stores_keep_and_pods_cost_is_told_through_the_sdk(server: RedisServer, tmp_path: Path) -> None:
    retriever = Stores()
    with served(FakeLlm(token=INTERNAL_TOKEN)) as pod, served(retriever) as retriever_url:
        settings = gateway_settings(
            tmp_path,
            server,
            models={"fake": {"urls": [pod], "context_tokens": 2048}},
            retriever={"url": retriever_url, "token_file": str(tmp_path / "token")},
            limits={"prices": {"fake": {"gpu_hour": 6.0}}, "currency": "EUR"},
        )
        gateway = first_keys(settings)
        with gateway.serve() as url:
            admin: Any = closing(
                openai.OpenAI(base_url=f"{url}/v1", api_key="none", admin_api_key=gateway.admin_key, max_retries=0)
            ).admin.organization
            (project,) = [one.id for one in admin.projects.list()]
            since = int(time.time()) - 86_400
            page = admin.usage.vector_stores(start_time=since, group_by=["project_id"])
            found = [result for bucket in page.data for result in bucket.results]
            # Of both pages of its stores.
            assert [(one.project_id, one.usage_bytes) for one in found] == [(project, 300)]
            assert [one.object for one in found] == ["organization.usage.vector_stores.result"]
            retriever.bytes = 500
            page = admin.usage.vector_stores(start_time=since, bucket_width="1h", limit=30)
            # In this hour, or in the one that has just begun.
            assert [result.usage_bytes for bucket in page.data for result in bucket.results][-1] == 600
            assert not any(
                bucket.results for bucket in admin.usage.vector_stores(start_time=since, project_ids=["proj_x"]).data
            )
            with pytest.raises(openai.BadRequestError, match="group_by"):
                admin.usage.vector_stores(start_time=since, group_by=["model"])
            asked = {"start_time": str(since), "group_by": "line_item"}
            headers = dict(gateway.headers(gateway.admin_key))

            def items() -> dict[str, Any]:
                body = httpx.get(f"{url}/v1/organization/costs", params=asked, headers=headers, timeout=30).json()
                return {one["line_item"]: one for bucket in body["data"] for one in bucket["results"]}

            # Nobody has asked the model: its pod costs what it costs all the same. (Within a minute or two.)
            idle = wait_until(lambda: items().get("fake, GPU idle"), seconds=150, what="a minute is counted")
            assert idle is not None
            assert idle["quantity_unit"] == "duration_hours"
            path = f"{url}/cloister/v1/usage/unit-costs"
            each = httpx.get(path, params={"start_time": str(since)}, headers=headers, timeout=30).json()
            assert each == {"object": "list", "currency": "eur", "data": []}
            assert httpx.get(path, headers=dict(gateway.headers()), timeout=30).status_code == 403
            assert idle["amount"] == {"value": pytest.approx(idle["quantity"] * 6.0), "currency": "eur"}


class Stores:
    """A retriever with two vector stores, each on a page of its own."""

    bytes = 200

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        second = b"after=vs_1" in scope["query_string"]
        kept = 100 if second else self.bytes
        name = "vs_2" if second else "vs_1"
        stores = [{"id": name, "usage_bytes": kept}]
        body = orjson.dumps({"object": "list", "data": stores, "has_more": not second, "last_id": name})
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
