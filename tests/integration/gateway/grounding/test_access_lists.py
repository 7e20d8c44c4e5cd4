"""Whose files a caller sees is the key's to say: in file routes, searches, turns, background turns and takeovers."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloister_common.caller import CALLER_HEADER, NOBODY, Caller
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found
from cloister_common.testing.serving import served

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, secret_file
from tests.support.gateway_process import GatewayProcess
from tests.support.sockets import opened, send, turn
from tests.support.waiting import wait_until

RESULTS = ["file_search_call.results"]
ANY = {"type": "file_search", "ranking_options": {"score_threshold": 0.0}}
"""A search that finds every passage, however far."""
PEOPLE: dict[str, dict[str, Any]] = {
    "anna": {"user": "anna"},
    "ben": {"user": "ben"},
    "hr": {"groups": ["hr"]},
    "officer": {"scopes": ["all_files"]},
    "service": {},
}


class People:
    """Keys of one project, by who holds them."""

    def __init__(self, url: str, gateway: GatewayFixture) -> None:
        self.url, self.gateway = url, gateway
        admin = gateway.headers(gateway.admin_key)
        project = self._made(admin, "/organization/projects", name="p")["id"]
        accounts = f"/organization/projects/{project}/service_accounts"
        self.keys = {
            name: self._made(admin, accounts, name=name, **holder)["api_key"]["value"]
            for name, holder in PEOPLE.items()
        }

    def _made(self, headers: Any, path: str, **json: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self.url}/v1{path}", headers=headers, json=json, timeout=30)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def __call__(self, name: str, url: str | None = None) -> Any:
        """The SDK with the key of ``name``."""
        return sdk(url or self.url, self.gateway, self.keys[name])


@pytest.fixture
def people(gateway_url: str, gateway: GatewayFixture, search: FakeRetriever) -> People:
    return People(gateway_url, gateway)


@pytest.fixture
def store(people: People) -> tuple[str, str, str]:
    """A store, its open file, and one that Anna keeps for herself and HR."""
    anna = people("anna")
    is_open, salaries = (
        anna.files.create(file=(name, text), purpose="assistants").id
        for name, text in (("open.txt", b"The canteen opens at noon."), ("salaries.txt", b"The salary is 4711."))
    )
    store = anna.vector_stores.create(file_ids=[is_open]).id
    attached = anna.vector_stores.files.create(
        store, file_id=salaries, extra_body={"access": {"users": [], "groups": ["hr"]}}
    )
    assert attached.to_dict()["access"] == {"owner": "anna", "users": [], "groups": ["hr"]}
    return store, is_open, salaries


@pytest.mark.parametrize("name", PEOPLE)
@pytest.mark.parametrize("way", ["plain", "background", "socket", "search"])
def test_a_turn_finds_what_the_key_that_asks_may_see(
    people: People, store: tuple[str, str, str], way: str, name: str
) -> None:
    asking = people(name)
    tool = {**ANY, "vector_store_ids": [store[0]]}
    asked: dict[str, Any] = {"model": "fake", "input": "What is the salary?", "tools": [tool], "include": RESULTS}
    if way == "search":
        found_files = {one.file_id for one in asking.vector_stores.search(store[0], query="salary")}
    elif way == "socket":
        with opened(people.url, GatewayFixture(people.gateway.settings, people.keys[name], "")) as socket:
            send(socket, "response.create", **asked)
            events = turn(socket)
        output = events[-1]["response"]["output"]
        found_files = {one["file_id"] for one in output[0]["results"]}
    else:
        response = asking.responses.create(**asked, background=way == "background")

        def ended() -> Any:
            now = asking.responses.retrieve(response.id, include=RESULTS)
            return now if now.status == "completed" else None

        found_files = {one.file_id for one in wait_until(ended).output[0].results}
    assert found_files == (set(store[1:]) if name in {"anna", "hr", "officer"} else {store[1]})


@pytest.mark.parametrize("name", ["ben", "service"])
def test_a_file_that_the_key_may_not_see_is_nowhere(people: People, store: tuple[str, str, str], name: str) -> None:
    vector_store, is_open, salaries = store
    asking = people(name)
    assert [file.id for file in asking.files.list()] == [is_open]
    assert [file.id for file in asking.vector_stores.files.list(vector_store)] == [is_open]
    headers = people.gateway.headers(people.keys[name])
    for path in (
        f"/files/{salaries}",
        f"/files/{salaries}/content",
        f"/vector_stores/{vector_store}/files/{salaries}",
        f"/vector_stores/{vector_store}/files/{salaries}/content",
    ):
        unknown = path.replace(salaries, "file-" + "0" * len(salaries.removeprefix("file-")))
        answers = [httpx.get(f"{people.url}/v1{one}", headers=headers, timeout=30) for one in (path, unknown)]
        assert [answer.status_code for answer in answers] == [404, 404]
    message = {"role": "user", "content": [{"type": "input_file", "file_id": salaries}]}
    body = {"model": "fake", "input": [message]}
    asked = httpx.post(f"{people.url}/v1/responses", headers=headers, json=body, timeout=30)
    assert (asked.status_code, asked.json()["error"]["param"]) == (404, "input[0].content[0].file_id")


def test_nothing_that_a_caller_types_makes_them_somebody_else(
    people: People, search: FakeRetriever, store: tuple[str, str, str]
) -> None:
    anna = base64.urlsafe_b64encode(Caller(user="anna", all_files=True).model_dump_json().encode()).decode()
    typed = {CALLER_HEADER: anna, "x-cloister-tenant": "other", "openai-user": "anna"}
    tool = {**ANY, "vector_store_ids": [store[0]]}
    response = people("ben").responses.create(
        model="fake",
        input="the salary?",
        tools=[tool],
        include=RESULTS,
        user="anna",
        safety_identifier="anna",
        metadata={"user": "anna"},
        extra_headers=typed,
    )
    assert [one.file_id for one in response.output[0].results] == [store[1]]
    assert search.callers == [Caller(user="ben")]
    assert [file.id for file in people("ben").files.list(extra_headers=typed)] == [store[1]]


def test_an_access_list_is_changed_by_its_owner_and_in_force_at_once(
    people: People, store: tuple[str, str, str]
) -> None:
    vector_store, is_open, salaries = store
    body = {"attributes": None, "access": {"users": ["ben"], "groups": []}}
    for name, status in (("hr", 403), ("ben", 404), ("service", 404), ("anna", 200)):
        answer = httpx.post(
            f"{people.url}/v1/vector_stores/{vector_store}/files/{salaries}",
            headers=people.gateway.headers(people.keys[name]),
            json=body,
            timeout=30,
        )
        assert answer.status_code == status
    for name, files in (("ben", {is_open, salaries}), ("hr", {is_open})):
        assert {one.file_id for one in people(name).vector_stores.search(vector_store, query="salary")} == files


def test_who_takes_a_run_over_searches_as_who_asked(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm, search: FakeRetriever, tmp_path: Path
) -> None:
    search.planted["vs_1"] = [found("The moon is made of rock.", file_id="file-moon", filename="moon.md")]
    tool = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    with served(search) as retriever:
        token = str(secret_file(tmp_path, "token", INTERNAL_TOKEN))
        gateway = make_gateway(retriever={"url": retriever, "token_file": token})
        process = GatewayProcess(tmp_path / "process", gateway.settings)
        process.start()
        with gateway.serve() as url:
            people = People(url, gateway)
            search.may_search.clear()
            created = people("anna", process.url).responses.create(
                model="fake", input="the moon?", background=True, tools=[tool]
            )
            wait_until(lambda: search.callers, what="the search")
            process.kill()
            search.may_search.set()
            asking = people("anna")
            wait_until(lambda: asking.responses.retrieve(created.id).status == "completed", what="the takeover")
    assert len(search.callers) >= 2
    assert set(search.callers) == {Caller(user="anna")}


def test_keys_say_who_holds_them(people: People) -> None:
    admin = people.gateway.headers(people.gateway.admin_key)
    projects = httpx.get(f"{people.url}/v1/organization/projects", headers=admin, params={"limit": 100}, timeout=30)
    project = projects.json()["data"][-1]["id"]
    path = f"{people.url}/v1/organization/projects/{project}"
    keys = httpx.get(f"{path}/api_keys", headers=admin, timeout=30).json()["data"]
    assert [(key["name"], key["user"], key["groups"], key["scopes"]) for key in keys] == [
        ("anna", "anna", [], ["api"]),
        ("ben", "ben", [], ["api"]),
        ("hr", None, ["hr"], ["api"]),
        ("officer", None, [], ["all_files", "api"]),
        ("service", None, [], ["api"]),
    ]
    for wrong in ({"user": ""}, {"user": "x" * 129}, {"groups": ["x" * 128 + str(n) for n in range(40)]}):
        refused = httpx.post(f"{path}/service_accounts", headers=admin, json={"name": "n", **wrong}, timeout=30)
        assert refused.status_code == 400
        assert next(iter(wrong)) in refused.json()["error"]["param"]
    many = {"name": "n", "groups": [f"{n:0128d}" for n in range(40)]}
    refused = httpx.post(f"{path}/service_accounts", headers=admin, json=many, timeout=30)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "groups")
    bare = {"name": "n", "create_service_account_only": True, "user": "x"}
    assert httpx.post(f"{path}/service_accounts", headers=admin, json=bare, timeout=30).status_code == 400


def test_a_key_that_nobody_holds_asks_for_nobody(
    people: People, search: FakeRetriever, store: tuple[str, str, str]
) -> None:
    tool = {**ANY, "vector_store_ids": [store[0]]}
    people("service").responses.create(model="fake", input="hi", tools=[tool])
    assert search.callers == [NOBODY]
