"""What histories happen on: two gateways, each behind a network of its own, one Redis, two pods. All are processes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.disks import PoweredDisk
from tests.support.gateway import first_keys, gateway_settings, secret_file
from tests.support.gateway_process import GatewayProcess
from tests.support.llm_process import CONTEXT_TOKENS, LlmProcess
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy

__all__ = ["Site", "running_site"]

_TENANTS = 2
_STARTING = {"cloister_common.app", "cloister_gateway.app", "uvicorn.error"}
_DISK_MIB = 128
_RECOVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Site:
    """The processes, the disk of Redis, and keys of several tenants."""

    gateways: tuple[GatewayProcess, ...]
    networks: tuple[TcpProxy, ...]
    redis: RedisServer
    disk: PoweredDisk
    pods: tuple[LlmProcess, ...]
    keys: tuple[str, ...]

    def faults_told(self) -> list[str]:
        """What the gateways have told their operator as errors: what breaks around them is none. A start without Redis
        is one."""
        lines = [line for gateway in self.gateways for line in gateway.log.read_text("utf-8").splitlines()]
        told = [json.loads(line) for line in lines if line.startswith("{") and '"error"' in line]
        return [f"log: {entry}" for entry in told if entry["level"] == "error" and entry["logger"] not in _STARTING]

    async def wait_until_ready(self) -> None:
        """Until both gateways say that Redis is ready."""
        deadline = asyncio.get_running_loop().time() + _RECOVERY_SECONDS
        async with httpx.AsyncClient(timeout=5) as client:
            for gateway in self.gateways:
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        parts = (await client.get(f"{gateway.url}/readyz")).json()["parts"]
                        if parts["redis"] == "ready":  # embedder and retriever are not there
                            break
                    assert asyncio.get_running_loop().time() < deadline, f"{gateway.url} is not ready again"
                    await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running_site(folder: Path, **redis_options: str) -> AsyncIterator[Site]:
    """Starts all of it, and ends it with the block.

    Args:
        folder: An empty folder.
        redis_options: Settings of Redis in place of the durable ones.
    """
    async with contextlib.AsyncExitStack() as stack:
        disk = PoweredDisk(folder / "disk", _DISK_MIB)
        stack.callback(disk.unmount)
        (folder / "redis").mkdir()
        redis = RedisServer(folder / "redis", **{"dir": str(disk.mounted), **redis_options})
        stack.callback(redis.kill)
        await asyncio.to_thread(redis.start)
        token = secret_file(folder / "secrets", "token", "internal-token-of-the-tests-0123456789")
        pods = (LlmProcess(folder / "pod-0", token), LlmProcess(folder / "pod-1", token))
        settings = gateway_settings(
            folder / "secrets",
            redis,
            models={"fake": {"urls": [pod.url for pod in pods], "context_tokens": CONTEXT_TOKENS}},
            llm={"token_file": str(token), "token_seconds": 2, "first_token_seconds": 5, "outage_seconds": 0.5},
            responses={"conversation_wait_seconds": 10},
        )
        if redis_options:
            settings = settings.model_copy(
                update={"redis": settings.redis.model_copy(update={"durability": "best_effort"})}
            )
        keys = await asyncio.to_thread(first_keys, settings)
        networks = [await stack.enter_async_context(TcpProxy(redis.port)) for _ in range(2)]
        gateways = []
        for number, network in enumerate(networks):
            reached = settings.redis.model_copy(
                update={"url": f"redis://127.0.0.1:{network.port}", "timeout_seconds": 2.0}
            )
            gateways.append(
                GatewayProcess(folder / f"gateway-{number}", settings.model_copy(update={"redis": reached}))
            )
        for process in (*pods, *gateways):
            stack.callback(process.kill)
        await asyncio.gather(*(asyncio.to_thread(process.start) for process in (*pods, *gateways)))
        tenants = [keys.project_key]
        async with httpx.AsyncClient(base_url=gateways[0].url, headers=keys.headers(keys.admin_key)) as admin:
            while len(tenants) < _TENANTS:
                tenants.append(await _another_tenant(admin, f"tenant {len(tenants)}"))
        await asyncio.to_thread(_sync, redis)
        yield Site(tuple(gateways), tuple(networks), redis, disk, pods, tuple(tenants))


def _sync(redis: RedisServer) -> None:
    """Has everything on the disk that was written so far, however Redis syncs: the keys are to outlast every test."""
    with redis.client() as client:
        usual = client.config_get("appendfsync")["appendfsync"]
        client.config_set("appendfsync", "always")
        client.set("cloister-test", "synced")
        client.config_set("appendfsync", usual)


async def _another_tenant(admin: httpx.AsyncClient, name: str) -> str:
    """A key of a new project."""
    project = (await admin.post("/v1/organization/projects", json={"name": name})).raise_for_status().json()
    path = f"/v1/organization/projects/{project['id']}/service_accounts"
    account: dict[str, Any] = (await admin.post(path, json={"name": "clients"})).raise_for_status().json()
    key: str = account["api_key"]["value"]
    return key
