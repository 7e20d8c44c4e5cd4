"""Pods that the Kubernetes API tells of: followed over a real socket through all that a watch can meet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cloister_common.internal import InternalTokens
from cloister_common.supervisor import Supervisor
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.model_settings import LlmSettings
from cloister_gateway.models import Catalog, ChatModel, ModelUpstream, endpoints, open_upstream
from cloister_gateway.models.catalog import Slices
from cloister_gateway.models.fleet import Fleet

from tests.support.gateway import INTERNAL_TOKEN, secret_file
from tests.support.kubernetes_api import KubernetesApi, slice_of
from tests.support.waiting import until

WANTED = Slices("chat", "kubernetes.io/service-name=llm", "http")


def llm_settings(folder: Path) -> LlmSettings:
    return LlmSettings.model_validate({"token_file": folder / "token", "outage_seconds": 0.01})


@contextlib.asynccontextmanager
async def following(catalog: Catalog, folder: Path, kubeconfig: Path) -> AsyncIterator[Fleet]:
    fleet, supervisor = Fleet(catalog, llm_settings(folder), kubeconfig_file=kubeconfig), Supervisor()
    fleet.start(supervisor)
    try:
        yield fleet
    finally:
        await supervisor.close()


def model(name: str = "fake", slices: Slices = WANTED) -> ChatModel:
    return ChatModel(name, 2048, 512, kubernetes=slices)


def hosts(fleet: Fleet, name: str = "fake") -> list[str]:
    return [pod.url.removeprefix("http://").removesuffix(":8083") for pod in fleet[name].all]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_pods_come_and_go_with_the_slices_whichever_version_the_server_has(version: str, tmp_path: Path) -> None:
    api = KubernetesApi(version)
    api.page = 1
    api.put(slice_of("a", "10.0.0.1"), slice_of("b", "10.0.0.2"))
    api.put(slice_of("another", "10.0.0.9", labels={"kubernetes.io/service-name": "other"}))
    with api.serve(tmp_path) as kubeconfig:
        async with following(Catalog([model()]), tmp_path, kubeconfig) as fleet:
            await until(lambda: hosts(fleet) == ["10.0.0.1", "10.0.0.2"])
            kept = fleet["fake"].all[0]
            await until(lambda: api.watches == 1)
            listed = api.lists
            api.put(slice_of("b", "10.0.0.2", "10.0.0.3"))
            await until(lambda: hosts(fleet) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"])
            api.delete("b")
            await until(lambda: hosts(fleet) == ["10.0.0.1"])
            assert fleet["fake"].all[0] is kept, "a pod that stays keeps its load"
            assert api.lists == listed, "what changes is watched"
            ending = {"addresses": ["10.0.0.1"], "conditions": {"ready": True, "terminating": True}}
            api.put(slice_of("a", endpoints=[ending]))
            await until(lambda: hosts(fleet) == [])


async def test_a_watch_that_ends_goes_on_from_its_last_bookmark(tmp_path: Path) -> None:
    api = KubernetesApi()
    api.put(slice_of("a", "10.0.0.1"))
    with api.serve(tmp_path) as kubeconfig:
        async with following(Catalog([model()]), tmp_path, kubeconfig) as fleet:
            await until(lambda: api.watches == 1 and hosts(fleet))
            api.put(slice_of("another", "10.0.0.9", labels={"kubernetes.io/service-name": "other"}))
            newest = str(api._newest)
            asked = len(api.requests)
            # (The bookmark tells of what the watch itself is not shown.)
            await until(lambda: _cut_and_asked_from(api, newest))
            assert all("watch" in query for query in api.requests[asked:])
            api.put(slice_of("a", "10.0.0.2"))
            await until(lambda: hosts(fleet) == ["10.0.0.2"])


def _cut_and_asked_from(api: KubernetesApi, version: str) -> bool:
    if api.watches:
        api.cut()
    return api.requests[-1].get("resourceVersion") == version


async def test_what_is_too_old_to_go_on_from_is_listed_anew(tmp_path: Path) -> None:
    api = KubernetesApi()
    api.put(slice_of("a", "10.0.0.1"))
    with api.serve(tmp_path) as kubeconfig:
        async with following(Catalog([model()]), tmp_path, kubeconfig) as fleet:
            await until(lambda: api.watches == 1 and hosts(fleet))
            listed = api.lists
            api.put(slice_of("a", "10.0.0.7"))
            api.forget()  # So the watch never tells of it, or only of what came before.
            await until(lambda: api.lists > listed and hosts(fleet) == ["10.0.0.7"])
            await until(lambda: api.watches == 1)
            api.put(slice_of("a", "10.0.0.8"))
            await until(lambda: hosts(fleet) == ["10.0.0.8"])


async def test_the_last_known_pods_stay_while_the_api_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_LONGEST_PAUSE_SECONDS", 0.2)
    api = KubernetesApi()
    api.put(slice_of("a", "10.0.0.1"))
    catalog = Catalog([model()])
    with api.serve(tmp_path) as kubeconfig:
        async with following(catalog, tmp_path, kubeconfig) as fleet:
            await until(lambda: api.watches == 1 and hosts(fleet) == ["10.0.0.1"])
            right, api.token = api.token, "another"
            api.cut()
            asked = len(api.requests)
            await until(lambda: len(api.requests) > asked + 1)  # refused, and again
            assert hosts(fleet) == ["10.0.0.1"]
            api.put(slice_of("a", "10.0.0.2"))
            api.token = right
            await until(lambda: hosts(fleet) == ["10.0.0.2"])


async def test_models_that_name_slices_later_are_followed_without_a_restart(tmp_path: Path) -> None:
    api = KubernetesApi()
    api.put(slice_of("a", "10.0.0.1"))
    api.put(slice_of("b", "10.0.0.5", labels={"app": "second"}))
    catalog = Catalog([ChatModel("plain", 2048, 512, urls=("http://127.0.0.1:1",))])
    with api.serve(tmp_path) as kubeconfig:
        async with following(catalog, tmp_path, kubeconfig) as fleet:
            assert api.requests == []
            catalog.replace([model()])
            await until(lambda: hosts(fleet) == ["10.0.0.1"])
            catalog.replace([model(), model("second", Slices("chat", "app=second"))])
            await until(lambda: hosts(fleet, "second") == ["10.0.0.5"])
            await until(lambda: api.watches == 2)
            catalog.replace([model()])
            await until(lambda: api.watches == 1)


async def test_replicas_change_under_load_and_no_answer_is_lost(tmp_path: Path) -> None:
    """A pod that leaves the slices gets nothing new, and what it has begun is read to its end."""
    first, second = FakeLlm(token=INTERNAL_TOKEN), FakeLlm(token=INTERNAL_TOKEN)
    api = KubernetesApi()
    with served(first) as one, served(second, int(one.rsplit(":", 1)[1]), host="127.0.0.2"):
        port = int(one.rsplit(":", 1)[1])
        api.put(slice_of("a", "127.0.0.1", port=port))
        with api.serve(tmp_path) as kubeconfig:
            async with _upstream(tmp_path, kubeconfig) as (llm, fleet):
                await until(lambda: fleet["fake"].all)
                first.hold_after = 1
                held = llm.stream_events("fake", {"messages": []}, tenant="t")
                begun = await anext(held)
                api.put(slice_of("a", "127.0.0.2", port=port))
                await until(lambda: [pod.url for pod in fleet["fake"].all] == [f"http://127.0.0.2:{port}"])
                asked = len(first.chats())
                await asyncio.gather(
                    *(llm.complete_chat("fake", {"messages": []}, tenant="t", affinity=str(n)) for n in range(8))
                )
                assert (len(first.chats()), len(second.chats())) == (asked, 8)
                first.release()
                blocks = [begun, *[block async for block in held]]
                assert blocks[-1].endswith(b"data: [DONE]\n\n")


@contextlib.asynccontextmanager
async def _upstream(folder: Path, kubeconfig: Path) -> AsyncIterator[tuple[ModelUpstream, Fleet]]:
    keyring = Keyring("gateway", FileRootKey(secret_file(folder, "root")), MemoryKeyStore())
    supervisor = Supervisor()
    opened = open_upstream(
        Catalog([model()]),
        llm_settings(folder),
        InternalTokens([INTERNAL_TOKEN.encode()]),
        keyring,
        kubeconfig_file=kubeconfig,
    )
    async with opened as llm:
        llm.start(supervisor)
        yield llm, llm.fleet
        await supervisor.close()
