"""History is the server's: along chains and forks, and in conversations, one turn at a time."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from cloister_common.errors import NotFound
from cloister_common.ids import new_id
from cloister_common.testing.llm import FakeLlm
from cloister_common.vault import Keyring
from cloister_gateway.runs.history import HistoryReader, earlier_links
from cloister_gateway.runs.records import TurnRequest
from cloister_gateway.runs.store import Header, ResponseStore
from cloister_gateway.storage import ItemLog
from redis.asyncio import Redis

from tests.integration.gateway.conftest import Installation, sdk
from tests.support.gateway import GatewayFixture
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


def said(llm: FakeLlm, call: int = -1) -> list[str]:
    """What the model was given, as ``role: text``."""
    return [f"{message['role']}: {message['content']}" for message in llm.chats()[call]["messages"]]


def echo(body: dict[str, Any]) -> list[str]:
    return [f"answer to {body['messages'][-1]['content']}"]


def test_chains_and_forks_carry_their_own_history(client: Any, other: Any, llm: FakeLlm) -> None:
    llm.respond = echo
    first = client.responses.create(model="fake", input="one", instructions="be kind")
    second = other.responses.create(model="fake", input="two", previous_response_id=first.id)
    fork = client.responses.create(model="fake", input="three", previous_response_id=first.id, instructions="be brief")
    client.responses.create(model="fake", input="four", previous_response_id=second.id)
    assert said(llm) == [
        "user: one", "assistant: answer to one", "user: two", "assistant: answer to two", "user: four"
    ]  # fmt: skip
    client.responses.create(model="fake", input="five", previous_response_id=fork.id)
    assert said(llm) == [
        "user: one", "assistant: answer to one", "user: three", "assistant: answer to three", "user: five"
    ]  # fmt: skip
    assert said(llm, 2)[0] == "system: be brief"
    assert second.previous_response_id == first.id


def test_a_chain_waits_for_the_end_of_its_previous_response(client: Any, llm: FakeLlm) -> None:
    llm.hold_after = 1
    first = client.responses.create(model="fake", input="one", background=True)
    wait_until(lambda: llm.running == 1)
    threading.Timer(0.3, llm.release).start()
    client.responses.create(model="fake", input="two", previous_response_id=first.id)
    assert said(llm) == ["user: one", "assistant: Hello, this is the fake.", "user: two"]


def test_a_chain_goes_on_from_a_response_in_a_conversation(client: Any, llm: FakeLlm) -> None:
    llm.respond = echo
    conversation = client.conversations.create(items=[{"role": "user", "content": "zero"}])
    first = client.responses.create(model="fake", input="one", conversation=conversation.id)
    client.responses.create(model="fake", input="two", conversation=conversation.id)
    client.responses.create(model="fake", input="fork", previous_response_id=first.id)
    assert said(llm) == ["user: zero", "user: one", "assistant: answer to one", "user: fork"]


@pytest.mark.parametrize("truncation", ["auto", "disabled"])
@pytest.mark.parametrize("deleted", [0, 1, 2])
@pytest.mark.parametrize("begins", ["alone", "in a conversation"])
def test_a_chain_with_a_deleted_link_is_refused_before_anything_is_stored(
    begins: str, deleted: int, truncation: str, client: Any, llm: FakeLlm, installation: Installation
) -> None:
    where = {} if begins == "alone" else {"conversation": client.conversations.create().id}
    made = [client.responses.create(model="fake", input="one", **where)]
    for _ in range(2):
        made.append(client.responses.create(model="fake", input="more", previous_response_id=made[-1].id))
    client.responses.delete(made[deleted].id)
    asked = len(llm.chats())
    with installation.redis.client() as redis:
        before = set(redis.keys("resp:*"))
        for more in ({}, {"stream": True}, {"background": True}):
            with pytest.raises(openai.NotFoundError) as refused:
                client.responses.create(
                    model="fake", input="x", previous_response_id=made[-1].id, truncation=truncation, **more
                )
            assert (refused.value.code, refused.value.param) == (
                "previous_response_not_found",
                "previous_response_id",
            )
            assert made[deleted].id in refused.value.message
        assert set(redis.keys("resp:*")) <= before
    assert len(llm.chats()) == asked


def test_a_deleted_conversation_under_a_chain_breaks_it_too(client: Any) -> None:
    conversation = client.conversations.create()
    first = client.responses.create(model="fake", input="one", conversation=conversation.id)
    second = client.responses.create(model="fake", input="two", previous_response_id=first.id)
    client.conversations.delete(conversation.id)
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="fake", input="three", previous_response_id=second.id)
    assert refused.value.code == "previous_response_not_found"


async def test_a_long_chain_is_looked_at_in_few_round_trips(
    redis: Redis, keyring: Keyring, items: ItemLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResponseStore(redis, keyring)
    history = HistoryReader(store, items, keyring)
    made: list[Header] = []
    request = TurnRequest(model="fake", input=[], earlier=[])
    for _ in range(200):
        header = Header(new_id("resp_"), "proj_a", "", True, False, True)
        await store.create(header, body={}, request=request)
        made.append(header)
        links = earlier_links(header.id, request)
        request = TurnRequest(model="fake", input=[], previous_response_id=header.id, earlier=links)
    trips = 0
    look = ResponseStore.headers

    async def counted(self: ResponseStore, ids: Any) -> Any:
        nonlocal trips
        trips += 1
        return await look(self, ids)

    monkeypatch.setattr(ResponseStore, "headers", counted)
    await history.check_links("proj_a", request)
    assert trips == 4
    # A request of the version before names only its previous response, and is followed all the same.
    request = request.model_copy(update={"earlier": None})
    await history.check_links("proj_a", request)
    with pytest.raises(NotFound):
        await history.check_links("proj_b", request)
    for place in (0, 100, 199):
        await store.destroy(made[place])
        with pytest.raises(NotFound) as refused:
            await history.check_links("proj_a", request)
        assert made[place].id in refused.value.message


def test_conversation_remembers_five_turns_in_order(client: Any, other: Any, llm: FakeLlm) -> None:
    llm.respond = echo
    conversation = client.conversations.create()
    for number in range(5):
        one = (client, other)[number % 2]
        one.responses.create(model="fake", input=f"q{number}", conversation={"id": conversation.id})
    expected = [text for n in range(4) for text in (f"user: q{n}", f"assistant: answer to q{n}")]
    assert said(llm) == [*expected, "user: q4"]
    items = list(other.conversations.items.list(conversation.id, order="asc", limit=3))
    texts = [item.content[0].text for item in items]
    assert texts == [text for n in range(5) for text in (f"q{n}", f"answer to q{n}")]


def test_second_turn_waits_for_the_first_and_then_knows_its_answer(client: Any, other: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 1
    first = client.responses.create(model="fake", input="one", conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    threading.Timer(0.4, llm.release).start()
    second = other.responses.create(model="fake", input="two", conversation=conversation.id)
    assert said(llm) == ["user: one", "assistant: Hello, this is the fake.", "user: two"]
    assert second.created_at >= first.created_at


def test_a_turn_that_waited_too_long_is_refused_and_leaves_nothing(
    client: Any, other: Any, llm: FakeLlm, installation: Installation
) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 1
    first = client.responses.create(model="fake", input="one", conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    with installation.redis.client() as redis:
        before = set(redis.keys("resp:*"))
        calls: list[Callable[[], object]] = [
            lambda: other.responses.create(model="fake", input="two", conversation=conversation.id),
            lambda: other.conversations.items.create(conversation.id, items=[{"role": "user", "content": "x"}]),
        ]
        for call in calls:
            with pytest.raises(openai.ConflictError) as refused:
                call()
            assert refused.value.code == "conversation_locked"
            assert refused.value.response.headers["retry-after"] == "2"
        assert set(redis.keys("resp:*")) <= before
    llm.release()
    wait_until(lambda: client.responses.retrieve(first.id).status == "completed")
    assert len(list(client.conversations.items.list(conversation.id))) == 2


def test_turns_that_come_together_are_taken_one_after_the_other(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm
) -> None:
    installed = make_gateway(responses={"conversation_wait_seconds": 60})
    llm.respond = echo
    with installed.serve() as first, installed.serve() as second:
        clients = [sdk(first, installed), sdk(second, installed)]
        conversation = clients[0].conversations.create()

        def ask(number: int) -> None:
            clients[number % 2].responses.create(model="fake", input=f"q{number}", conversation=conversation.id)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        texts = [item.content[0].text for item in clients[1].conversations.items.list(conversation.id, order="asc")]
    questions = texts[::2]
    assert sorted(questions) == [f"q{number}" for number in range(8)]
    assert texts[1::2] == [f"answer to {question}" for question in questions]
    assert llm.most_running <= 8
    lengths = sorted(len(body["messages"]) for body in llm.chats())
    assert lengths == [1 + 2 * number for number in range(8)]


def test_a_log_that_a_destroyed_response_holds_is_set_free(client: Any, installation: Installation) -> None:
    conversation = client.conversations.create()
    with installation.redis.client() as redis:
        redis.hset(f"conv:{{{conversation.id}}}", "run", "resp_that_no_longer_exists")
    assert client.responses.create(model="fake", input="hi", conversation=conversation.id).status == "completed"


def test_a_run_whose_response_is_gone_sets_its_conversation_free(
    client: Any, llm: FakeLlm, installation: Installation
) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 1
    created = client.responses.create(model="fake", input="hi", conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    with installation.redis.client() as redis:
        redis.delete(f"resp:{{{created.id}}}")
        wait_until(lambda: not redis.hexists(f"conv:{{{conversation.id}}}", "run"), what="the end of the run")
    wait_until(lambda: llm.running == 0, what="the abort in the pod")
    client.conversations.items.create(conversation.id, items=[{"role": "user", "content": "free"}])


def test_a_turn_that_waits_for_its_conversation_leaves_nothing_that_others_could_take(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm, redis_server: RedisServer
) -> None:
    gateway = make_gateway(responses={"conversation_wait_seconds": 60})
    llm.hold_after = 1
    made: list[str] = []
    with gateway.serve() as url, redis_server.client() as redis:
        client = sdk(url, gateway)
        conversation = client.conversations.create()
        running = client.responses.create(model="fake", input="one", conversation=conversation.id, background=True)
        wait_until(lambda: llm.running == 1)

        def ask() -> None:
            made.append(client.responses.create(model="fake", input="two", conversation=conversation.id).status)

        looked = redis.info("commandstats")["cmdstat_hmget"]["calls"]
        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(
            lambda: redis.info("commandstats")["cmdstat_hmget"]["calls"] > looked + 5, what="the looks of the other"
        )
        assert redis.keys("resp:*:lease") == [f"resp:{{{running.id}}}:lease".encode()]
        assert redis.zrange("runs:active", 0, -1) == [running.id.encode()]
        assert redis.keys("resp:*}") == [f"resp:{{{running.id}}}".encode()]
        llm.release()
        thread.join(30)
        texts = [item.content[0].text for item in client.conversations.items.list(conversation.id, order="asc")]
    assert made == ["completed"]
    assert texts == ["one", "".join(llm.answer), "two", "".join(llm.answer)]


@pytest.fixture
def narrow(make_gateway: Callable[..., GatewayFixture], llm_url: str) -> Iterator[Any]:
    """The SDK at a gateway whose model has a context of 128 words, 64 of them for the prompt."""
    model = {"urls": [llm_url], "context_tokens": 128, "default_output_tokens": 64}
    gateway = make_gateway(models={"fake": model})
    with gateway.serve() as url:
        yield sdk(url, gateway)


def test_history_that_does_not_fit_loses_the_oldest_turns_visibly(narrow: Any, llm: FakeLlm) -> None:
    conversation = narrow.conversations.create()
    llm.answer = ["ok"]
    dropped = []
    for number in range(6):
        text = f"q{number} " + "word " * 14
        response = narrow.responses.create(model="fake", input=text, conversation=conversation.id)
        assert response.status == "completed"
        assert response.truncation == "auto"
        dropped.append(response.truncation_details["dropped_messages"])
        assert said(llm)[-1].startswith(f"user: q{number}")
    assert dropped == [0, 0, 0, 2, 4, 6]
    assert [text.split()[1] for text in said(llm)] == ["q3", "ok", "q4", "ok", "q5"]


def test_disabled_truncation_refuses_what_does_not_fit_before_storing_it(narrow: Any, llm: FakeLlm) -> None:
    conversation = narrow.conversations.create()
    text = "word " * 40
    narrow.responses.create(model="fake", input=text, conversation=conversation.id, truncation="disabled")
    calls: list[dict[str, Any]] = [{"stream": True}, {"background": True}, {}]
    for more in calls:
        with pytest.raises(openai.BadRequestError) as refused:
            narrow.responses.create(
                model="fake", input=text, conversation=conversation.id, truncation="disabled", **more
            )
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
    assert len(list(narrow.conversations.items.list(conversation.id))) == 2


def test_a_message_that_never_fits_is_refused_whatever_the_policy(narrow: Any, llm: FakeLlm) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        narrow.responses.create(model="fake", input="word " * 70)
    assert refused.value.code == "context_length_exceeded"
    assert "71 tokens" in refused.value.message
    assert llm.chats() == []
    assert narrow.responses.create(model="fake", input="word " * 60).status == "completed"
