"""Gateways on a Redis Cluster: all that callers do works there as on one Redis, while masters die and slots move."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import joined_text, sdk
from tests.integration.gateway.failover.conftest import CONFIRMED, callers
from tests.support.gateway import GatewayFixture, first_keys, gateway_settings
from tests.support.gateway_process import GatewayProcess
from tests.support.pages import from_page, refused, ticket
from tests.support.redis_cluster import RedisCluster
from tests.support.sockets import ask, text_of, turn
from tests.support.stopwatch import stopwatch
from tests.support.waiting import wait_until

ANSWER = "Hello, this is the fake."


@pytest.fixture
def installed(cluster: RedisCluster, tmp_path: Path, llm_url: str) -> GatewayFixture:
    for master in cluster.masters:
        with master.client() as client:
            client.flushall()
    models = {"fake": {"urls": [llm_url], "context_tokens": 2048}}
    redis = {**cluster.settings, **CONFIRMED}
    return first_keys(gateway_settings(tmp_path / "secrets", cluster, models=models, redis=redis))


@pytest.fixture
def clients(installed: GatewayFixture) -> Iterator[list[Any]]:
    """The SDK at two gateways."""
    with installed.serve() as one, installed.serve() as other:
        yield [sdk(one, installed), sdk(other, installed)]


def test_turns_lists_deletions_and_administration_work(installed: GatewayFixture, clients: list[Any]) -> None:
    one, other = clients
    made = [one.conversations.create() for _ in range(6)]
    for conversation in made:
        first = one.responses.create(model="fake", input="one", conversation=conversation.id)
        second = other.responses.create(model="fake", input="two", conversation=conversation.id)
        assert (first.output_text, second.output_text) == (ANSWER, ANSWER)
        listed = one.conversations.items.list(conversation.id, order="asc")
        assert [item.role for item in listed] == ["user", "assistant"] * 2
        one.conversations.items.delete(next(iter(listed)).id, conversation_id=conversation.id)
        assert len(list(other.conversations.items.list(conversation.id))) == 3
        with one.responses.create(model="fake", input="three", conversation=conversation.id, stream=True) as stream:
            events = list(stream)
        again = list(other.responses.retrieve(events[0].response.id, stream=True))
        assert [event.to_dict() for event in again] == [event.to_dict() for event in events]
        other.conversations.delete(conversation.id)
        for gone in (lambda: one.responses.retrieve(first.id), lambda: one.conversations.retrieve(conversation.id)):  # noqa: B023
            with pytest.raises(openai.NotFoundError):
                gone()  # type: ignore[no-untyped-call]  # the SDK is
    alone = one.responses.create(model="fake", input="alone")
    chained = other.responses.create(model="fake", input="chained", previous_response_id=alone.id)
    assert chained.output_text == ANSWER
    one.responses.delete(alone.id)
    repeated = {"extra_headers": {"Idempotency-Key": "once"}}
    assert len({client.responses.create(model="fake", input="same", **repeated).id for client in clients}) == 1


def test_projects_and_keys_are_administered_and_revoked_on_every_gateway(
    installed: GatewayFixture, clients: list[Any]
) -> None:
    one, other = (sdk(str(client.base_url).removesuffix("/v1/"), installed, installed.admin_key) for client in clients)

    def call(client: Any, method: str, path: str, **body: Any) -> Any:
        return getattr(client, method)(f"/organization/{path}", cast_to=object, **({"body": body} if body else {}))

    project = call(one, "post", "projects", name="a project")["id"]
    account = call(one, "post", f"projects/{project}/service_accounts", name="an account")
    key, secret = account["api_key"]["id"], account["api_key"]["value"]
    named = [listed["id"] for listed in call(other, "get", "projects")["data"]]
    assert project in named
    assert key in [listed["id"] for listed in call(other, "get", f"projects/{project}/api_keys")["data"]]
    users = [sdk(str(client.base_url).removesuffix("/v1/"), installed, secret) for client in clients]
    for user in users:
        assert user.responses.create(model="fake", input="hi").output_text == ANSWER
    call(one, "delete", f"projects/{project}/api_keys/{key}")
    for user in users:
        wait_until(lambda: _is_refused(user), seconds=2, what="the revocation is heard")  # noqa: B023
    assert call(other, "post", f"projects/{project}/archive")["status"] == "archived"


def test_a_ticket_made_on_one_gateway_opens_one_socket_on_another(
    installed: GatewayFixture, clients: list[Any]
) -> None:
    one, other = (str(client.base_url).removesuffix("/v1/") for client in clients)
    shown = ticket(one, installed.project_key, page=None)
    with from_page(other, "realtime", shown, page=None) as socket:
        ask(socket)
        assert text_of(turn(socket)) == ANSWER
    assert refused(one, "realtime", shown, page=None) == (401, "invalid_ticket")


def _is_refused(client: Any) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return True
    return False


def test_the_answer_of_a_killed_gateway_is_finished_by_another(
    installed: GatewayFixture, clients: list[Any], llm: FakeLlm, tmp_path: Path
) -> None:
    process = GatewayProcess(tmp_path / "process", installed.settings).start()
    doomed = sdk(process.url, installed)
    conversation = clients[0].conversations.create()
    llm.hold_after = 3
    created = doomed.responses.create(model="fake", input="hi", conversation=conversation.id, background=True)
    watching = iter(clients[0].responses.retrieve(created.id, stream=True))
    seen = [next(watching)]
    while joined_text(seen) != "Hello, this":
        seen.append(next(watching))
    process.kill()
    llm.release()
    seen += list(watching)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert (seen[-1].type, joined_text(seen)) == ("response.completed", ANSWER)
    assert len(list(clients[1].conversations.items.list(conversation.id))) == 2


def test_a_master_killed_under_load_costs_nothing_that_was_acknowledged(
    cluster: RedisCluster, clients: list[Any], llm: FakeLlm
) -> None:
    conversation = clients[0].conversations.create()
    llm.delay_seconds = 0.05
    with callers(clients) as made:
        stream = iter(clients[0].responses.create(model="fake", input="hi", conversation=conversation.id, stream=True))
        seen = [next(stream)]
        watching = iter(clients[1].responses.retrieve(seen[0].response.id, stream=True))
        elsewhere = [next(watching)]
        while not joined_text(seen):
            seen.append(next(stream))
        master = cluster.kill_master_of(f"conv:{{{conversation.id}}}")
        with stopwatch() as resuming:
            seen += list(stream)
            elsewhere += list(watching)
        assert resuming.seconds < 10
    cluster.revive(master)
    assert [event.to_dict() for event in elsewhere] == [event.to_dict() for event in seen]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert (seen[-1].type, joined_text(seen)) == ("response.completed", ANSWER)
    for caller in made:
        caller.check(clients[1])


def test_conversations_whose_slots_move_under_load_notice_nothing(
    cluster: RedisCluster, clients: list[Any], llm: FakeLlm
) -> None:
    llm.delay_seconds = 0.02
    stopping = threading.Event()
    stories: list[list[Any]] = []

    def watch(conversation: str) -> None:
        """Reads at one gateway what is asked at the other."""
        while not stopping.is_set():
            created = clients[0].responses.create(model="fake", input="hi", conversation=conversation, background=True)
            stories.append(list(clients[1].responses.retrieve(created.id, stream=True)))

    with cluster.steady(), callers(clients, 4) as made:
        watched = clients[0].conversations.create().id
        watching = threading.Thread(target=watch, args=[watched])
        watching.start()
        try:
            for conversation in (watched, *(caller.conversation for caller in made), watched):
                cluster.move(f"conv:{{{conversation}}}")
            cluster.move("{identity}")
            cluster.move("runs:active")
            cluster.move("gw:control")
        finally:
            stopping.set()
            watching.join()
    assert [caller.faults for caller in made] == [[]] * 4
    for caller in made:
        caller.check(clients[1])
    assert stories
    for events in stories:
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert (events[-1].type, joined_text(events)) == ("response.completed", ANSWER)
