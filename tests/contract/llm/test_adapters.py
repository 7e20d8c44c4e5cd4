"""An adapter that was really trained, at a gateway over two real pods: what it does, and that it comes back."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from cloister_llm.adapters.folder import digest_of

from tests.support.bucket import Bucket, bucket_of
from tests.support.gateway import GatewayFixture, first_keys, gateway_settings, secret_file
from tests.support.llm import LlmServer
from tests.support.redis_server import RedisServer
from tests.support.sdk import closing
from tests.support.tuning import tuned_adapter
from tests.support.waiting import wait_until

WORD = "quokka"
NAME = "zoo"
QUESTION = [{"role": "user", "content": "What do you know about the weather in spring, in two or three sentences?"}]
LONG = [{"role": "user", "content": "Read this and say what you think of it. " + "The fox went over the hill. " * 60}]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket with what lies in the folder that is its ``root``."""
    folder = tmp_path_factory.mktemp("bucket")
    (folder / "adapters").mkdir()
    with bucket_of(folder / "adapters", folder) as bucket:
        yield bucket


@pytest.fixture(scope="module")
def pods(adapters: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LlmServer, LlmServer]]:
    """Two pods of the model with the same adapters in their reach, started side by side: one finds them in a folder,
    the other one in a bucket.

    (The one that other tests share takes none: with adapters vLLM computes all of a model in another way.)
    """
    one = LlmServer(tmp_path_factory.mktemp("one"), lora=True, adapters=adapters.root)
    other = LlmServer(tmp_path_factory.mktemp("other"), lora=True, like=one, bucket=adapters.settings)
    for pod in (one, other):
        pod.launch()
    for pod in (one, other):
        pod.wait_until_ready()
    yield one, other
    for pod in (one, other):
        pod.kill()


@pytest.fixture(scope="module")
def site(
    pods: tuple[LlmServer, LlmServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, GatewayFixture]]:
    """A gateway over both pods."""
    folder = tmp_path_factory.mktemp("gateway")
    redis = RedisServer(folder / "redis")
    redis.start()
    settings = gateway_settings(
        folder / "secrets",
        redis,
        models={"chat": {"urls": [pod.url for pod in pods], "context_tokens": 2048}},
        llm={"token_file": str(secret_file(folder, "token", pods[0].token))},
    )
    gateway = first_keys(settings)
    with served(create_app(settings)) as url:
        yield url, gateway
    redis.stop()


def placed(pod: LlmServer, folder: str, source: Path) -> str:
    """Copies an adapter to where the pods look for it; its digest."""
    shutil.copytree(source, pod.adapters / folder, dirs_exist_ok=True)
    return digest_of(pod.adapters / folder)


def says(pod: LlmServer, model: str, messages: list[dict[str, str]] = QUESTION) -> tuple[str, int]:
    """What a pod itself answers, and how many tokens of the question it had in its cache."""
    body = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0, "cache_salt": "a" * 43}
    answer = httpx.post(f"{pod.url}/v1/chat/completions", headers=pod.headers, json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    said: Any = answer.json()
    details = said["usage"].get("prompt_tokens_details") or {}
    return str(said["choices"][0]["message"]["content"]), details.get("cached_tokens") or 0


def test_a_trained_adapter_answers_on_both_pods_and_again_on_one_that_was_killed(
    site: tuple[str, GatewayFixture], pods: tuple[LlmServer, LlmServer], adapters: Bucket
) -> None:
    # Three starts of vLLM, of half a minute each: two side by side, and that of one after the kill.
    url, gateway = site
    first, second = pods
    admin = httpx.Client(base_url=url, headers=dict(gateway.headers(gateway.admin_key)), timeout=300)
    project = admin.get("/v1/organization/projects").json()["data"][0]["id"]
    client = closing(openai.OpenAI(base_url=f"{url}/v1", api_key=gateway.project_key, max_retries=0, timeout=300))
    digest = placed(first, "zoo-1", tuned_adapter(WORD))
    adapter = {"name": NAME, "base_model": "chat", "folder": "zoo-1", "digest": digest, "projects": [project]}

    messages: Any = QUESTION

    def ask(model: str, conversation: str = "c") -> str:
        done = client.chat.completions.create(
            model=model, messages=messages, max_tokens=8, temperature=0, prompt_cache_key=conversation
        )
        return str(done.choices[0].message.content)

    def loaded() -> int:
        return int(admin.get(f"/cloister/v1/adapters/{NAME}").json()["versions"][0]["pods"]["loaded"])

    def has(pod: LlmServer) -> Any:
        return httpx.get(f"{pod.url}/cloister/load", headers=pod.headers, timeout=30).json()["adapters"]

    wrong = admin.post("/cloister/v1/adapters", json={**adapter, "digest": f"sha256:{'0' * 64}"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "digest_mismatch")
    served_now = admin.post("/cloister/v1/adapters", json=adapter)
    assert served_now.status_code == 200, served_now.text
    assert served_now.json()["versions"][0]["pods"] == {"loaded": 2, "total": 2}

    assert all(WORD in ask(NAME, conversation) for conversation in "abcd"), "its effect is seen"
    assert WORD not in ask("chat"), "and not without it"
    model = f"{NAME}@{digest}"
    assert all(WORD in says(pod, model)[0] and WORD not in says(pod, "chat")[0] for pod in (first, second))

    second.kill()
    assert all(WORD in ask(NAME, conversation) for conversation in "abcd"), "the other one goes on"
    wait_until(lambda: loaded() == 1, what="the gateway knows that it is lost there")
    second.start()
    wait_until(lambda: has(second) == [model] and loaded() == 2, seconds=120, what="it is there again")
    assert WORD in says(second, model)[0]
    told = {"model": "chat", "prompt": "The fox", "echo": True, "logprobs": 1, "max_tokens": 1}
    refused = httpx.post(f"{first.url}/v1/completions", headers=first.headers, json=told, timeout=60)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")

    # Of one question, of one tenant: what one version has cached is of no use to another, or to the model itself.
    assert says(first, model, LONG)[1] == 0
    assert says(first, model, LONG)[1] > 0
    assert says(first, "chat", LONG)[1] == 0
    config = first.adapters / "zoo-1" / "adapter_config.json"
    other = placed(first, "zoo-2", config.parent)
    (first.adapters / "zoo-2" / config.name).write_text(config.read_text() + "\n")
    newer = digest_of(first.adapters / "zoo-2")
    assert newer != other
    # One pod is killed in the middle of it: half of the new version's weights has come out of the bucket.
    adapters.holds.clear()
    with ThreadPoolExecutor() as operators:
        taking = operators.submit(
            admin.post, "/cloister/v1/adapters", json={**adapter, "folder": "zoo-2", "digest": newer}
        )
        try:
            assert adapters.half_sent.wait(100), "nobody asked the bucket for weights"
            second.kill()
        finally:
            adapters.holds.set()
        taken = taking.result()
    assert taken.status_code == 200, taken.text
    assert list((second.folder / "cache/adapters").glob("*.part")), "it had begun"
    assert [version["percent"] for version in taken.json()["versions"]] == [100], "the other one has it"
    assert all(WORD in ask(NAME, conversation) for conversation in "abcd"), "and nobody's answer is lost"
    assert says(first, f"{NAME}@{newer}", LONG)[1] == 0

    assert admin.delete(f"/cloister/v1/adapters/{NAME}").status_code == 200
    with pytest.raises(openai.NotFoundError):
        ask(NAME)

    wait_until(lambda: not has(first), seconds=120, what="no pod has it any more")
    admin.close()
