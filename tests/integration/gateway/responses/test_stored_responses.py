"""What is kept of a response: idempotent creation, ``store: false``, deletion, input items, conversations' items."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_gateway.conversations.service import ConversationService
from cloister_gateway.responses.service import ResponseService
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.storage import KeyedObject
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.integration.gateway.conftest import Installation
from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until


def test_same_key_and_body_give_the_same_response_at_every_gateway(client: Any, other: Any, llm: FakeLlm) -> None:
    key = {"idempotency-key": "order-1"}
    first = client.responses.create(model="fake", input="hi", extra_headers=key)
    again = other.responses.create(model="fake", input="hi", extra_headers=key)
    assert again.to_dict() == first.to_dict()
    assert len(llm.chats()) == 1
    with pytest.raises(openai.ConflictError) as refused:
        client.responses.create(model="fake", input="other", extra_headers=key)
    assert refused.value.code == "idempotency_key_reused"
    by_body = [
        client.responses.create(model="fake", input="hi", extra_body={"client_request_id": "order-2"}) for _ in range(2)
    ]
    assert by_body[0].id == by_body[1].id != first.id


def test_twenty_at_once_with_one_key_make_one_run(client: Any, other: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 1
    found: list[str] = []

    def ask(one: Any) -> None:
        response = one.responses.create(
            model="fake", input="hi", conversation=conversation.id, extra_headers={"idempotency-key": "race"}
        )
        found.append(response.id)

    threads = [threading.Thread(target=ask, args=(one,)) for one in (client, other) * 10]
    for thread in threads:
        thread.start()
    wait_until(lambda: llm.running == 1)
    llm.release()
    for thread in threads:
        thread.join(60)
    assert len(found) == 20
    assert len(set(found)) == 1
    assert len(llm.chats()) == 1
    assert len(list(client.conversations.items.list(conversation.id))) == 2


def test_a_key_under_which_nothing_was_accepted_is_free_again(client: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create()
    llm.hold_after = 1
    running = client.responses.create(model="fake", input="one", conversation=conversation.id, background=True)
    wait_until(lambda: llm.running == 1)
    ask = {"model": "fake", "input": "two", "conversation": conversation.id, "extra_headers": {"idempotency-key": "k"}}
    with pytest.raises(openai.ConflictError):
        client.responses.create(**ask)
    llm.release()
    wait_until(lambda: client.responses.retrieve(running.id).status == "completed")
    assert client.responses.create(**ask).status == "completed"


def test_a_key_whose_response_was_deleted_makes_another(client: Any) -> None:
    key = {"idempotency-key": "again"}
    first = client.responses.create(model="fake", input="hi", extra_headers=key)
    client.responses.delete(first.id)
    second = client.responses.create(model="fake", input="hi", extra_headers=key)
    assert second.id != first.id


def test_unstored_response_cannot_be_fetched_and_goes_after_its_time(client: Any, installation: Installation) -> None:
    response = client.responses.create(model="fake", input="CANARY-77", store=False)
    assert (response.status, response.store) == ("completed", False)
    calls: list[Callable[[], object]] = [
        lambda: client.responses.retrieve(response.id),
        lambda: client.responses.retrieve(response.id, stream=True),
        lambda: client.responses.cancel(response.id),
        lambda: client.responses.delete(response.id),
        lambda: client.responses.input_items.list(response.id),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError):
            call()
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="fake", input="x", previous_response_id=response.id)
    with installation.redis.client() as redis:
        assert redis.exists(f"resp:{{{response.id}}}")
        wait_until(lambda: redis.zadd("runs:ended", {response.id: 1}, xx=True, ch=True))
        wait_until(lambda: not redis.keys(f"*{response.id}*"), what="the end of the unstored response")


def test_deleted_response_and_its_key_are_gone(client: Any, other: Any, installation: Installation) -> None:
    response = client.responses.create(model="fake", input="hi")
    assert client.responses.delete(response.id) is None
    for one in (client, other):
        with pytest.raises(openai.NotFoundError):
            one.responses.retrieve(response.id)
        with pytest.raises(openai.NotFoundError):
            one.responses.delete(response.id)
    with installation.redis.client() as redis:
        assert redis.keys(f"*{response.id}*") == []


async def _dies(*_: Any) -> None:
    raise RedisConnectionError


def test_a_deletion_that_broke_off_can_be_asked_for_again(
    client: Any, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = client.conversations.create()
    within = client.responses.create(model="fake", input="hi", conversation=conversation.id)
    alone = client.responses.create(model="fake", input="hi")
    deletions = [partial(client.responses.delete, alone.id), partial(client.conversations.delete, conversation.id)]
    with monkeypatch.context() as broken:
        broken.setattr(ResponseStore, "destroy", _dies)
        broken.setattr(ResponseStore, "destroy_those_of", _dies)
        for delete in deletions:
            with pytest.raises(openai.InternalServerError) as refused:
                delete()
            assert refused.value.status_code == 503
    for delete in deletions:
        delete()
    with installation.redis.client() as redis:
        for gone in (alone.id, within.id, conversation.id):
            assert redis.keys(f"*{gone}*") == []


def test_what_somebody_deletes_after_it_was_found_is_a_404(
    client: Any, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = client.conversations.items
    calls: dict[str, Callable[[str], object]] = {
        "retrieve": client.conversations.retrieve,
        "update": lambda name: client.conversations.update(name, metadata={"a": "b"}),
        "list": items.list,
        "add": lambda name: items.create(name, items=[{"role": "user", "content": "x"}]),
        "remove": lambda name: items.delete("msg_1", conversation_id=name),
        "response": client.responses.retrieve,
        "input": client.responses.input_items.list,
        "cancel": client.responses.cancel,
        "delete": client.responses.delete,
    }
    find, find_response = ConversationService.find, ResponseService.find

    async def found(service: Any, principal: Any, name: str, **options: Any) -> KeyedObject:
        keyed = await (find if name.startswith("conv_") else find_response)(service, principal, name, **options)
        with installation.redis.client() as redis:
            redis.delete(f"{name.split('_')[0]}:{{{name}}}")
        return keyed

    for what, call in calls.items():
        if what in {"response", "input", "cancel", "delete"}:
            name = client.responses.create(model="fake", input="hi").id
        else:
            name = client.conversations.create().id
        with monkeypatch.context() as racing:
            racing.setattr(ConversationService, "find", found)
            racing.setattr(ResponseService, "find", found)
            with pytest.raises(openai.APIError) as refused:
                call(name)
        assert refused.value.code == "not_found", what


def test_input_items_are_paged_in_both_directions(client: Any) -> None:
    texts = [f"m{number}" for number in range(5)]
    response = client.responses.create(
        model="fake", input=[{"role": "user", "content": [{"type": "input_text", "text": text}]} for text in texts]
    )
    list_items = client.responses.input_items.list
    assert [item.content[0].text for item in list_items(response.id, order="asc", limit=2)] == texts
    assert [item.content[0].text for item in list_items(response.id)] == texts[::-1]
    page = list_items(response.id, order="asc", limit=2)
    assert (len(page.data), page.has_more, page.first_id, page.last_id) == (2, True, page.data[0].id, page.data[1].id)
    with pytest.raises(openai.BadRequestError) as refused:
        list_items(response.id, after="msg_unknown")
    assert refused.value.param == "after"


def test_parts_of_a_message_stay_parts(client: Any, llm: FakeLlm) -> None:
    message = {"role": "user", "content": [{"type": "input_text", "text": text} for text in ("a ", "b")]}
    conversation = client.conversations.create(items=[message])
    response = client.responses.create(model="fake", input=[message], conversation=conversation.id)
    stored = [
        *client.responses.input_items.list(response.id),
        client.conversations.items.list(conversation.id, order="asc").data[0],
    ]
    assert [[part.text for part in item.content] for item in stored] == [["a ", "b"]] * 2
    assert [sent["content"] for sent in llm.chats()[-1]["messages"]] == ["a b", "a b"]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_deleting_items_while_listing_them_deletes_all(client: Any, order: str) -> None:
    notes = [{"role": "user", "content": f"note {number}"} for number in range(7)]
    conversation = client.conversations.create(items=notes).id
    for item in client.conversations.items.list(conversation, limit=2, order=order):
        client.conversations.items.delete(item.id, conversation_id=conversation)
    assert client.conversations.items.list(conversation).data == []
    with pytest.raises(openai.BadRequestError) as refused:
        client.conversations.items.list(conversation, after="msg_never")
    assert refused.value.param == "after"


def test_conversation_items_are_created_listed_retrieved_and_deleted(client: Any, other: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create(metadata={"title": "t"}, items=[{"role": "system", "content": "a"}])
    added = client.conversations.items.create(
        conversation.id, items=[{"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]
    )
    ids = [item.id for item in other.conversations.items.list(conversation.id, order="asc", limit=2)]
    assert ids[1:] == [item.id for item in added.data]
    assert other.conversations.items.retrieve(ids[1], conversation_id=conversation.id).content[0].text == "b"
    after = other.conversations.items.list(conversation.id, order="asc", after=ids[0])
    assert [item.id for item in after] == ids[1:]
    deleted = client.conversations.items.delete(ids[1], conversation_id=conversation.id)
    assert deleted.id == conversation.id
    with pytest.raises(openai.NotFoundError):
        other.conversations.items.retrieve(ids[1], conversation_id=conversation.id)
    client.responses.create(model="fake", input="d", conversation=conversation.id)
    assert [message["content"] for message in llm.chats()[-1]["messages"]] == ["a", "c", "d"]
    assert client.conversations.update(conversation.id, metadata={"title": "u"}).metadata == {"title": "u"}
    assert other.conversations.retrieve(conversation.id).metadata == {"title": "u"}
    assert client.conversations.update(conversation.id, metadata=None).metadata == {}


def test_deleted_conversation_takes_everything_with_it(client: Any, other: Any, installation: Installation) -> None:
    conversation = client.conversations.create()
    response = client.responses.create(model="fake", input="hi", conversation=conversation.id)
    assert other.conversations.delete(conversation.id).deleted
    for one in (client, other):
        items = one.conversations.items
        calls: list[Callable[[], object]] = [
            partial(one.conversations.retrieve, conversation.id),
            partial(items.list, conversation.id),
            partial(one.conversations.delete, conversation.id),
            partial(one.responses.retrieve, response.id),
            partial(one.responses.create, model="fake", input="x", conversation=conversation.id),
            partial(items.create, conversation.id, items=[{"role": "user", "content": "x"}]),
        ]
        for call in calls:
            with pytest.raises(openai.NotFoundError):
                call()
    with installation.redis.client() as redis:
        assert redis.keys(f"*{conversation.id}*") == []
        assert redis.keys(f"resp:{{{response.id}}}*") == []


def test_a_tampered_conversation_is_an_error_and_not_content(
    client: Any, gateway: GatewayFixture, other_url: str, installation: Installation
) -> None:
    conversation = client.conversations.create(
        items=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    )
    with installation.redis.client() as redis:
        redis.xdel(f"conv:{{{conversation.id}}}:items", "1-0")
    answer = httpx.get(f"{other_url}/v1/conversations/{conversation.id}/items", headers=gateway.headers())
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "stored_data_damaged")
    failed = client.responses.create(model="fake", input="x", conversation=conversation.id)
    assert failed.status == "failed"
