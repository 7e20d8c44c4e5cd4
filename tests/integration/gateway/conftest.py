"""What the gateway's tests share: one installation of two gateways, the unmodified SDK, and parts below HTTP.

Most tests use the installation that all of them share (`gateway`, `gateway_url`, `llm`, `search`), and ids of their
own. Those that kill or count something, or need other settings, make one with `make_gateway`, over a Redis that is
theirs; `fresh_gateway` and `fresh_url` are one as it comes.
"""

import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from cloister_common.ids import new_id
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.serving import served
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.settings import RedisSettings
from cloister_gateway.storage import ItemLog, KeyedObject, record_key
from cloister_gateway.storage.client import command_client
from redis.asyncio import Redis

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, first_keys, gateway_settings, secret_file
from tests.support.redis_server import RedisServer
from tests.support.sdk import closing
from tests.support.waiting import wait_until

MakeKeyed = Callable[..., Awaitable[KeyedObject]]


@dataclasses.dataclass(frozen=True)
class Installation:
    """Two gateways over one Redis, with one model pod and one retriever."""

    gateway: GatewayFixture
    urls: tuple[str, str]
    llm: FakeLlm
    search: FakeRetriever
    redis: RedisServer


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    llm, search = FakeLlm(token=INTERNAL_TOKEN), FakeRetriever(INTERNAL_TOKEN)
    folder = tmp_path_factory.mktemp("installation")
    redis = RedisServer(folder / "redis")
    with contextlib.ExitStack() as stack:
        redis.start()
        stack.callback(redis.stop)
        pods = {"urls": [stack.enter_context(served(llm))], "context_tokens": 2048}
        settings = gateway_settings(
            folder / "secrets",
            redis,
            models={"fake": pods, "seeing": {**pods, "images": 2}},
            retriever={
                "url": stack.enter_context(served(search)),
                "token_file": str(secret_file(folder / "secrets", "token", INTERNAL_TOKEN)),
                "rewrite_model": "fake",
                "rewrite_seconds": 2,
            },
            responses={"conversation_wait_seconds": 1},
        )
        gateway = first_keys(settings)
        urls = (stack.enter_context(gateway.serve()), stack.enter_context(gateway.serve()))
        yield Installation(gateway, urls, llm, search, redis)


@pytest.fixture
def llm(installation: Installation) -> Iterator[FakeLlm]:
    """The shared pod, as new."""
    _reset(installation.llm)
    yield installation.llm
    _reset(installation.llm)
    # A run that a test left behind would meet what the next one sets.
    wait_until(lambda: installation.llm.running == 0, what="the generations that the test left behind have ended")


def _reset(llm: FakeLlm) -> None:
    fresh = FakeLlm(token=INTERNAL_TOKEN)
    for field in dataclasses.fields(FakeLlm):
        if field.name != "running":
            setattr(llm, field.name, getattr(fresh, field.name))
    llm.most_running = llm.running
    llm.__post_init__()  # what gateways of the test before have told it


@pytest.fixture
def search(installation: Installation) -> FakeRetriever:
    """The shared retriever, as new."""
    installation.search.planted = {}
    installation.search.searches = []
    installation.search.callers = []
    installation.search.may_search.set()
    installation.search.gone_after_look = set()
    installation.search.refuse_status = None
    return installation.search


@pytest.fixture
def gateway(installation: Installation, llm: FakeLlm) -> GatewayFixture:
    """The shared installation's settings and keys."""
    return installation.gateway


@pytest.fixture
def gateway_url(gateway: GatewayFixture, installation: Installation) -> str:
    """One gateway of the shared installation."""
    return installation.urls[0]


@pytest.fixture
def other_url(gateway: GatewayFixture, installation: Installation) -> str:
    """Another gateway of it."""
    return installation.urls[1]


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """A running, empty redis-server that no shared gateway uses. A test may kill it and start it again."""
    _redis_process.flush()
    return _redis_process


@pytest.fixture
def llm_url(llm: FakeLlm) -> Iterator[str]:
    """A second address of `llm`, which only the test knows."""
    with served(llm) as url:
        yield url


@pytest.fixture
def make_gateway(tmp_path: Path, redis_server: RedisServer, llm_url: str) -> Callable[..., GatewayFixture]:
    """Makes the settings and the first keys of an installation; keyword arguments replace settings sections."""

    def make(**sections: Any) -> GatewayFixture:
        sections.setdefault("models", {"fake": {"urls": [llm_url], "context_tokens": 2048}})
        return first_keys(gateway_settings(tmp_path / "secrets", redis_server, **sections))

    return make


@pytest.fixture
def fresh_gateway(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    """An installation over `redis_server`, with one model and nothing behind it."""
    return make_gateway()


@pytest.fixture
def fresh_url(fresh_gateway: GatewayFixture) -> Iterator[str]:
    """One gateway of it, serving."""
    with fresh_gateway.serve() as url:
        yield url


@pytest.fixture
def client(gateway: GatewayFixture, gateway_url: str) -> Any:
    """The SDK at the first gateway."""
    return sdk(gateway_url, gateway)


@pytest.fixture
def other(gateway: GatewayFixture, other_url: str) -> Any:
    """The SDK at the second gateway."""
    return sdk(other_url, gateway)


@pytest.fixture
def stranger(gateway: GatewayFixture, gateway_url: str) -> GatewayFixture:
    """A key of another project."""
    with openai.OpenAI(
        base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key, max_retries=0
    ) as admin:
        projects = admin.admin.organization.projects
        account = projects.service_accounts.create(projects.create(name="stranger").id, name="bot")
    assert account.api_key is not None
    return GatewayFixture(gateway.settings, account.api_key.value, "")


def sdk(url: str, gateway: GatewayFixture, key: str | None = None) -> Any:
    """The unmodified SDK. (Untyped: events and items are unions of dozens of types, of which tests mean one.)"""
    return _sdk(url, key or gateway.project_key)


@functools.cache
def _sdk(url: str, key: str) -> openai.OpenAI:
    # Without retries, which could hide a failure.
    return closing(openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60))


def joined_text(events: list[Any]) -> str:
    """The text that a reader of the events has seen."""
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def item(text: str = "hello") -> dict[str, Any]:
    """A new item, as logs keep them."""
    return {"id": new_id("msg_"), "type": "message", "text": text}


async def filled(items: ItemLog, keyed: KeyedObject, count: int = 5) -> list[dict[str, Any]]:
    """Appends ``count`` items one by one."""
    written = [item(f"item {number}") for number in range(1, count + 1)]
    for body in written:
        await items.append(keyed, [body])
    return written


@pytest.fixture
def redis_settings(installation: Installation) -> RedisSettings:
    """A database of the shared Redis in which no gateway looks for work."""
    settings = installation.redis.settings
    return RedisSettings.model_validate({**settings, "url": f"{settings['url']}/1"})


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[Redis]:
    """The gateway's own kind of client."""
    client = command_client(redis_settings)
    yield client
    await client.aclose()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """A keyring with a root key of its own."""
    return Keyring("gateway", FileRootKey(secret_file(tmp_path, "root")), MemoryKeyStore())


@pytest.fixture
def items(redis: Redis) -> ItemLog:
    return ItemLog(redis)


@pytest.fixture
def make_log(redis: Redis, keyring: Keyring, items: ItemLog) -> MakeKeyed:
    """Makes empty conversations, by default of one tenant."""

    async def make(tenant: str = "proj_a") -> KeyedObject:
        object_id = new_id("conv_")
        keyed = KeyedObject("conv", object_id, await keyring.create(tenant, "conv", object_id))
        fields: dict[Any, Any] = dict(items.new_head(keyed))
        await redis.hset(record_key("conv", object_id), mapping=fields)
        return keyed

    return make
