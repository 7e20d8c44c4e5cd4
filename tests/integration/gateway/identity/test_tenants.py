"""Another tenant's id and an unknown id are the same 404, on every route and on the socket."""

from typing import Any, NamedTuple

import httpx
import pytest
from cloister_common.ids import new_id
from cloister_common.testing.llm import FakeLlm
from cloister_gateway.runs.item_ids import output_id
from structlog.testing import capture_logs

from tests.integration.gateway.conftest import Installation, sdk
from tests.support.gateway import GatewayFixture
from tests.support.sockets import ask, opened, receive, send

MESSAGE = {"role": "user", "content": "x"}

ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/v1/responses/{response}", None),
    ("GET", "/v1/responses/{response}?stream=true", None),
    ("GET", "/v1/responses/{response}/input_items", None),
    ("POST", "/v1/responses/{response}/cancel", None),
    ("DELETE", "/v1/responses/{response}", None),
    ("POST", "/v1/responses", {"model": "fake", "input": [{"type": "item_reference", "id": "{item}"}]}),
    ("POST", "/v1/conversations", {"items": [{"type": "item_reference", "id": "{item}"}]}),
    ("POST", "/v1/responses", {"model": "fake", "input": "x", "previous_response_id": "{response}"}),
    ("POST", "/v1/responses", {"model": "fake", "input": "x", "conversation": "{conversation}"}),
    ("POST", "/v1/responses", {"model": "fake", "input": "x", "conversation": "{conversation}", "stream": True}),
    (
        "POST",
        "/v1/responses",
        {"model": "fake", "input": "x", "conversation": "{conversation}", "truncation": "disabled"},
    ),
    ("GET", "/v1/conversations/{conversation}", None),
    ("POST", "/v1/conversations/{conversation}", {"metadata": {"a": "b"}}),
    ("DELETE", "/v1/conversations/{conversation}", None),
    ("GET", "/v1/conversations/{conversation}/items", None),
    ("POST", "/v1/conversations/{conversation}/items", {"items": [MESSAGE]}),
    ("GET", "/v1/conversations/{conversation}/items/{item}", None),
    ("DELETE", "/v1/conversations/{conversation}/items/{item}", None),
]

EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("response.create", {"model": "fake", "input": [{"type": "item_reference", "id": "{item}"}]}),
    ("response.subscribe", {"response_id": "{response}"}),
    ("response.cancel", {"response_id": "{response}"}),
    ("conversation.subscribe", {"conversation_id": "{conversation}"}),
    ("response.create", {"model": "fake", "input": "x", "previous_response_id": "{response}"}),
    ("response.create", {"model": "fake", "input": "x", "conversation": "{conversation}"}),
]


class Ids(NamedTuple):
    """What a request is about."""

    response: str
    conversation: str
    item: str

    def into(self, template: Any) -> Any:
        """``template`` with the ids in it."""
        if isinstance(template, dict):
            return {name: self.into(value) for name, value in template.items()}
        if isinstance(template, list):
            return [self.into(value) for value in template]
        return template.format(**self._asdict()) if isinstance(template, str) else template

    def out_of(self, text: str) -> str:
        """``text`` without the ids."""
        for value in self:
            text = text.replace(value, "ID")
        return text


@pytest.fixture
def theirs(client: Any) -> Ids:
    """Ids of the default project."""
    conversation = client.conversations.create(items=[MESSAGE])
    response = client.responses.create(model="fake", input="hi", conversation=conversation.id)
    return Ids(response.id, conversation.id, client.conversations.items.list(conversation.id).data[0].id)


@pytest.fixture
def unknown() -> Ids:
    """Ids that nobody has."""
    return Ids(new_id("resp_"), new_id("conv_"), output_id("msg_", new_id("resp_"), 0))


def test_strangers_cannot_tell_an_id_from_an_unknown_one(
    theirs: Ids, unknown: Ids, stranger: GatewayFixture, gateway_url: str, client: Any, llm: FakeLlm
) -> None:
    before = len(llm.chats())
    with httpx.Client(base_url=gateway_url, headers=dict(stranger.headers())) as http:
        for method, path, body in ROUTES:
            answers = [http.request(method, ids.into(path), json=ids.into(body)) for ids in (theirs, unknown)]
            assert [answer.status_code for answer in answers] == [404, 404], (method, path)
            bodies = [ids.out_of(answer.text) for ids, answer in zip((theirs, unknown), answers, strict=True)]
            assert bodies[0] == bodies[1], (method, path)
            kept = [
                {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "date"}}
                for answer in answers
            ]
            assert kept[0] == kept[1], (method, path)
    assert len(llm.chats()) == before
    assert client.responses.retrieve(theirs.response).status == "completed"
    assert client.conversations.retrieve(theirs.conversation).metadata == {}
    assert len(list(client.conversations.items.list(theirs.conversation))) == 3


def test_strangers_cannot_tell_on_the_socket_either(
    theirs: Ids, unknown: Ids, stranger: GatewayFixture, gateway_url: str
) -> None:
    with opened(gateway_url, stranger) as socket:
        for kind, fields in EVENTS:
            told = []
            for ids in (theirs, unknown):
                send(socket, kind, **ids.into(fields))
                event = receive(socket)
                assert (event["type"], event["status"]) == ("error", 404), (kind, event)
                told.append(ids.out_of(str(event)))
            assert told[0] == told[1], kind


def test_strangers_hear_nothing_of_a_conversation(
    theirs: Ids, stranger: GatewayFixture, gateway: GatewayFixture, gateway_url: str
) -> None:
    with opened(gateway_url, stranger) as socket, opened(gateway_url, gateway) as owner:
        send(socket, "conversation.subscribe", conversation_id=theirs.conversation)
        assert receive(socket)["status"] == 404
        ask(owner, conversation=theirs.conversation)
        assert receive(owner)["type"] == "response.created"
        ask(socket)
        assert receive(socket)["response"]["conversation"] is None


def test_tenants_have_caches_and_idempotency_keys_of_their_own(
    stranger: GatewayFixture, gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    ids = [
        sdk(gateway_url, one).responses.create(model="fake", input="hi", extra_headers={"idempotency-key": "same"}).id
        for one in (gateway, stranger)
    ]
    assert ids[0] != ids[1]
    salts = [body["cache_salt"] for body in llm.chats()]
    assert salts[0] != salts[1]


def test_ids_that_somebody_put_into_redis_lead_to_nothing_of_others(
    theirs: Ids, stranger: GatewayFixture, gateway_url: str, client: Any, installation: Installation
) -> None:
    """Whoever writes to Redis points records of their own at what is not theirs, or at what they may not fetch."""
    own = sdk(gateway_url, stranger)
    mine = own.conversations.create(metadata={"whose": "mine"})
    hidden = own.responses.create(model="fake", input="CANARY", store=False).id
    with installation.redis.client() as redis, opened(gateway_url, stranger) as socket:
        send(socket, "conversation.subscribe", conversation_id=mine.id)
        assert receive(socket)["type"] == "conversation.subscribed"
        for planted in (theirs.response, hidden):
            # The one that runs in the conversation, and the word that one has begun there.
            redis.hset(f"conv:{{{mine.id}}}", "run", planted)
            redis.publish(f"conversation:{mine.id}", planted)
            redis.sadd(f"conv:{{{mine.id}}}:responses", planted)
        with opened(gateway_url, stranger) as late:
            send(late, "conversation.subscribe", conversation_id=mine.id)
            assert receive(late)["type"] == "conversation.subscribed"
            # Nor does it hold the conversation: the next turn is the first that its followers hear of.
            made = own.responses.create(model="fake", input="hi", conversation=mine.id)
            for one in (socket, late):
                assert receive(one)["response"]["id"] == made.id
        own.conversations.delete(mine.id)
        assert redis.exists(f"resp:{{{hidden}}}")
        assert not redis.exists(f"resp:{{{made.id}}}")
    assert client.responses.retrieve(theirs.response).status == "completed"


def test_a_record_rewritten_to_be_ones_own_opens_nothing(
    theirs: Ids, stranger: GatewayFixture, gateway_url: str, client: Any, installation: Installation
) -> None:
    own = sdk(gateway_url, stranger)
    mine = own.conversations.create()
    with capture_logs(), installation.redis.client() as redis, httpx.Client(base_url=gateway_url) as http:
        http.headers.update(stranger.headers())
        (tenant,) = redis.hmget(f"conv:{{{mine.id}}}", "tenant")
        for record, kept in ((key, redis.dump(key)) for key in redis.keys(f"*{{{theirs.response}}}")):
            for claimed in ({"tenant": tenant}, {"tenant": tenant, "conversation": mine.id}):
                redis.hset(record, mapping=claimed)
                for path in ("", "?stream=true", "/input_items"):
                    text = http.get(f"/v1/responses/{theirs.response}{path}").text
                    assert "stored_data_damaged" in text or "not_found" in text, (claimed, path, text)
                redis.restore(record, 0, kept, replace=True)
    assert client.responses.retrieve(theirs.response).status == "completed"
