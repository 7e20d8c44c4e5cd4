"""Adapters at two gateways and two pods: who may ask, where they are loaded, how versions change, how they go."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

V1, V2 = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
NAME = "support-leave"


def respond(body: dict[str, Any]) -> list[str]:
    """Says which model answers."""
    return ["I", " am ", body["model"]]


@dataclass
class Site:
    """An installation with two gateways and two pods of one model, the first of which can be killed."""

    gateway: GatewayFixture
    urls: tuple[str, str]
    pods: tuple[FakeLlm, FakeLlm]
    project: str
    kill_first: Callable[[], None]

    def admin(self, method: str, path: str = "", gateway: int = 0, **json: Any) -> httpx.Response:
        url = f"{self.urls[gateway]}/cloister/v1/adapters{path}"
        headers = dict(self.gateway.headers(self.gateway.admin_key))
        return httpx.request(method, url, headers=headers, json=json or None, timeout=60)

    def put(self, digest: str = V1, *, status: int = 200, gateway: int = 0, **more: Any) -> Any:
        asked = {"name": NAME, "base_model": "fake", "folder": f"leave/{digest[7]}", "digest": digest}
        answer = self.admin("POST", gateway=gateway, **{**asked, "projects": [self.project], **more})
        assert answer.status_code == status, answer.text
        return answer.json() if status == 200 else answer.json()["error"]

    def ask(self, gateway: int = 0, **more: Any) -> str:
        client = sdk(self.urls[gateway], self.gateway)
        return str(client.responses.create(**{"model": NAME, "input": "Who are you?", **more}).output_text)

    def names(self, gateway: int = 0) -> list[str]:
        return [model.id for model in sdk(self.urls[gateway], self.gateway).models.list().data]

    def loaded(self, gateway: int = 0) -> int:
        """On how many pods the adapter's newest version is loaded, as a gateway knows it."""
        shown = self.admin("GET", f"/{NAME}", gateway).json()
        return int(shown["versions"][0]["pods"]["loaded"])

    def loads(self, *places: int) -> list[str]:
        """The names that pods, or those at ``places``, were asked to load."""
        pods = [self.pods[place] for place in places] or self.pods
        requests = [request for pod in pods for request in pod.requests]
        return [request.body["name"] for request in requests if request.path == "/cloister/adapters/load"]


@pytest.fixture
def site(make_gateway: Callable[..., GatewayFixture]) -> Iterator[Site]:
    pods = (FakeLlm(token=INTERNAL_TOKEN, respond=respond), FakeLlm(token=INTERNAL_TOKEN, respond=respond))
    with contextlib.ExitStack() as first, contextlib.ExitStack() as stack:
        urls = [first.enter_context(served(pods[0])), stack.enter_context(served(pods[1]))]
        gateway = make_gateway(models={"fake": {"urls": urls, "context_tokens": 2048}})
        gateways = (stack.enter_context(gateway.serve()), stack.enter_context(gateway.serve()))
        headers = dict(gateway.headers(gateway.admin_key))
        projects = httpx.get(f"{gateways[0]}/v1/organization/projects", headers=headers, timeout=30).json()["data"]
        yield Site(gateway, gateways, pods, projects[0]["id"], first.close)


def test_an_adapter_answers_by_its_name_in_every_route_that_generates_once_each_pod_has_it(site: Site) -> None:
    shown = site.put()
    assert [pod.adapters for pod in site.pods] == [[f"{NAME}@{V1}"]] * 2
    assert shown["versions"] == [
        {
            "digest": V1,
            "folder": "leave/1",
            "created_at": shown["created_at"],
            "status": "serving",
            "percent": 100,
            "pods": {"loaded": 2, "total": 2},
        }
    ]
    for number in (0, 1):
        wait_until(lambda at=number: NAME in site.names(at), what="the gateway has heard of it")  # type: ignore[misc]
        client = sdk(site.urls[number], site.gateway)
        said = f"I am {NAME}@{V1}"
        assert site.ask(number) == said
        assert site.ask(number, model="fake") == "I am fake"
        question = [{"role": "user", "content": "Who are you?"}]
        chat = client.chat.completions.create(model=NAME, messages=question)
        assert (chat.choices[0].message.content, chat.model) == (said, NAME)
        chunks = list(client.chat.completions.create(model=NAME, messages=question, stream=True))
        assert {chunk.model for chunk in chunks} == {NAME}
        text = client.completions.create(model=NAME, prompt="Who are you?")
        assert (text.choices[0].text, text.model) == (said, NAME)
        model = client.models.retrieve(NAME)
        assert (model.parent, model.root, model.cloister["ready"]) == ("fake", "fake", True)


def test_other_projects_know_nothing_of_it(site: Site) -> None:
    site.put()
    with openai.OpenAI(base_url=f"{site.urls[0]}/v1", api_key="x", admin_api_key=site.gateway.admin_key) as admin:
        projects = admin.admin.organization.projects
        other = projects.create(name="other")
        account = projects.service_accounts.create(other.id, name="bot")
    assert account.api_key is not None
    stranger = sdk(site.urls[0], site.gateway, account.api_key.value)
    assert NAME not in [model.id for model in stranger.models.list().data]
    asks: tuple[Callable[[], Any], ...] = (
        lambda: stranger.models.retrieve(NAME),
        lambda: stranger.responses.create(model=NAME, input="x"),
        lambda: stranger.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "x"}]),
        lambda: stranger.completions.create(model=NAME, prompt="x"),
    )
    for ask in asks:
        with pytest.raises(openai.NotFoundError) as refused:
            ask()
        assert refused.value.code == "model_not_found"
    site.put(projects=[site.project, other.id])
    assert stranger.responses.create(model=NAME, input="x").output_text == f"I am {NAME}@{V1}"


def test_only_administration_keys_see_or_change_adapters(site: Site) -> None:
    for method in ("GET", "POST"):
        url = f"{site.urls[0]}/cloister/v1/adapters"
        answer = httpx.request(method, url, headers=dict(site.gateway.headers()), json={}, timeout=30)
        assert answer.status_code == 403, answer.text


def test_what_cannot_be_served_is_refused_by_the_field_and_changes_nothing(site: Site) -> None:
    assert site.put(status=400, base_model="none")["param"] == "base_model"
    assert site.put(status=400, name="fake")["param"] == "name"
    assert site.put(status=400, name="a b")["param"] == "name"
    assert site.put(status=400, projects=["proj_none"])["param"] == "projects[0]"
    assert site.put(status=400, projects=[])["param"] == "projects"
    assert site.put(status=400, digest="sha256:1")["param"] == "digest"
    assert site.put(status=400, canary_percent=10)["param"] == "canary_percent"
    site.pods[1].refuse_adapters = "The adapter does not fit: it has rank 64."
    error = site.put(status=400)
    assert (error["param"], error["code"], "rank 64" in error["message"]) == ("folder", "adapter_unfit", True)
    assert site.admin("GET").json()["data"] == []
    assert site.admin("GET", f"/{NAME}").status_code == 404
    assert site.admin("DELETE", f"/{NAME}").status_code == 404
    wait_until(lambda: site.pods[0].adapters == [], seconds=60, what="what the other pod had loaded is gone again")


def test_a_pod_that_began_anew_gets_no_request_for_an_adapter_before_it_has_it_again(site: Site) -> None:
    site.put()
    before = len(site.loads())
    for pod in site.pods:
        pod.adapters = []  # as after a restart
    # Whichever pod it comes to, known or not yet known to have begun anew.
    assert [site.ask() for _ in range(4)] == [f"I am {NAME}@{V1}"] * 4
    assert len(site.loads()) > before
    wait_until(lambda: all(pod.adapters for pod in site.pods), what="both pods have it again")
    assert [request.body["model"] for pod in site.pods for request in pod.requests if "messages" in request.body][-1]


def test_while_a_pod_loads_the_others_answer(site: Site) -> None:
    site.put()
    site.pods[0].hold_loads = True
    site.pods[0].adapters = []
    wait_until(lambda: site.loaded() == 1, what="the gateway that is asked has seen that it lacks")
    served_before = len(site.pods[0].chats())
    assert [site.ask() for _ in range(6)] == [f"I am {NAME}@{V1}"] * 6
    assert len(site.pods[0].chats()) == served_before
    site.pods[0].hold_loads = False
    wait_until(lambda: site.pods[0].adapters, what="it is loaded there")


def test_a_pod_killed_while_it_loads_a_new_version_holds_nobody_up(site: Site) -> None:
    site.put()
    site.pods[0].hold_loads = True
    with ThreadPoolExecutor() as operators:
        taking = operators.submit(site.put, V2)
        wait_until(lambda: f"{NAME}@{V2}" in site.loads(0), what="the first pod loads it")
        assert [site.ask() for _ in range(4)] == [f"I am {NAME}@{V1}"] * 4
        site.kill_first()
        site.pods[0].hold_loads = False
        taken = taking.result()
    assert [(version["digest"], version["percent"]) for version in taken["versions"]] == [(V2, 100)]
    assert [site.ask() for _ in range(4)] == [f"I am {NAME}@{V2}"] * 4


def test_a_new_version_takes_over_without_a_failed_request_and_the_old_one_goes(site: Site) -> None:
    site.put()
    stop, seen, failed = threading.Event(), [], []

    def ask(gateway: int) -> None:
        while not stop.is_set():
            try:
                seen.append(site.ask(gateway))
            except openai.OpenAIError as error:
                failed.append(error)

    askers = [threading.Thread(target=ask, args=(number % 2,)) for number in range(4)]
    wait_until(lambda: NAME in site.names(1), what="both gateways know it")
    for asker in askers:
        asker.start()
    try:
        wait_until(lambda: len(seen) > 8, what="questions are answered")
        site.put(V2, gateway=1)
        site.ask(1)
        wait_until(
            lambda: all(pod.adapters == [f"{NAME}@{V2}"] for pod in site.pods), seconds=60, what="the old is gone"
        )
        wait_until(lambda: seen[-1].endswith(V2), what="the new one answers")
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert failed == []
    assert {text.rpartition("@")[2] for text in seen} == {V1, V2}


def test_a_canary_gets_its_share_of_conversations_each_of_which_stays_with_its_version(site: Site) -> None:
    site.put()
    site.put(V2, canary_percent=30)
    client = sdk(site.urls[0], site.gateway)
    question = [{"role": "user", "content": "x"}]

    def version(key: str) -> str:
        chat = client.chat.completions.create(model=NAME, messages=question, prompt_cache_key=key)
        return str(chat.choices[0].message.content).rpartition("@")[2]

    keys = [f"conversation {number}" for number in range(60)]
    first = [version(key) for key in keys]
    assert 0 < first.count(V2) < 30
    assert [version(key) for key in keys] == first
    site.put(V2, canary_percent=70)
    grown = [version(key) for key in keys]
    assert all(after == V2 for before, after in zip(first, grown, strict=True) if before == V2)
    assert grown.count(V2) > first.count(V2)
    assert [found["percent"] for found in site.admin("GET", f"/{NAME}").json()["versions"]] == [30, 70]
    site.put(V1)
    assert {version(key) for key in keys[:10]} == {V1}, "the canary is taken back"


def test_a_removed_adapter_finishes_what_it_answers_and_is_nobodys_then(site: Site) -> None:
    site.put()
    for pod in site.pods:
        pod.hold_after = 1
    client = sdk(site.urls[0], site.gateway)
    stream = client.responses.create(model=NAME, input="x", stream=True)
    first = next(event for event in stream if event.type == "response.output_text.delta")
    assert site.admin("DELETE", f"/{NAME}").json() == {"id": NAME, "object": "adapter.deleted", "deleted": True}
    for number in (0, 1):
        wait_until(lambda at=number: NAME not in site.names(at), what="it is no model any more")  # type: ignore[misc]
        with pytest.raises(openai.NotFoundError):
            site.ask(number)
    for pod in site.pods:
        pod.release()
    text = first.delta + "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text == f"I am {NAME}@{V1}"
    wait_until(lambda: not any(pod.adapters for pod in site.pods), seconds=60, what="no pod has it any more")


def test_an_answer_cut_by_a_dead_pod_goes_on_with_its_version_though_it_was_removed(site: Site) -> None:
    site.put()
    for pod in site.pods:
        pod.hold_after = 1
    stream = sdk(site.urls[0], site.gateway).responses.create(model=NAME, input="x", stream=True)
    first = next(event for event in stream if event.type == "response.output_text.delta")
    site.admin("DELETE", f"/{NAME}")
    (busy,) = [pod for pod in site.pods if pod.running]
    (other,) = [pod for pod in site.pods if pod is not busy]
    other.release()
    busy.drop_after = 1
    busy.release()
    text = first.delta + "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text == f"I am {NAME}@{V1}"


def test_adapters_survive_gateways_and_redis_sees_nothing_of_them(site: Site, redis_server: RedisServer) -> None:
    site.put()
    for pod in site.pods:
        pod.adapters = []
    with site.gateway.serve() as url:
        client = sdk(url, site.gateway)
        assert client.responses.create(model=NAME, input="x").output_text == f"I am {NAME}@{V1}"
    with redis_server.client() as redis:
        stored: Any = redis.hgetall("adapters")
    (field, sealed), *rest = stored.items()
    assert rest == []
    for word in (NAME.encode(), V1.encode(), b"leave", site.project.encode()):
        assert word not in field + sealed


def test_a_request_that_was_interrupted_is_completed_by_the_next(site: Site) -> None:
    for pod in site.pods:
        pod.hold_loads = True
    asking = threading.Thread(target=lambda: contextlib.suppress(AssertionError) and site.put(gateway=1))
    asking.start()
    wait_until(lambda: site.admin("GET").json()["data"], what="the version is noted")
    (noted,) = site.admin("GET").json()["data"]
    assert [(found["status"], found["percent"]) for found in noted["versions"]] == [("loading", 0)]
    assert NAME not in site.names()
    for pod in site.pods:
        pod.hold_loads = False
    asking.join()
    assert site.put()["versions"][0]["status"] == "serving"
