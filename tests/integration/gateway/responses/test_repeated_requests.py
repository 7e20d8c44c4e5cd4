"""A turn that is asked for twice under one key is one turn, by whichever transport, and nobody else's ever."""

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from cloister_common.ids import new_id
from cloister_common.testing.llm import FakeLlm
from cloister_gateway.responses import entrance

from tests.integration.gateway.conftest import Installation, sdk
from tests.support.gateway import GatewayFixture
from tests.support.sockets import ask, opened, receive, turn

Forge = Callable[[Any, bytes, bytes, str], None]


def test_a_turn_of_a_broken_socket_is_the_same_over_http_and_on_other_lanes(
    client: Any, other: Any, gateway: GatewayFixture, gateway_url: str, other_url: str, llm: FakeLlm
) -> None:
    key = new_id("key_")
    llm.hold_after = 1
    with opened(gateway_url, gateway) as socket:
        ask(socket, client_request_id=key, stream_id="lane", max_output_tokens=4, metadata={"a": "1", "b": "2"})
        first = receive(socket)["response"]["id"]
    llm.release()
    again = {"model": "fake", "input": "hi", "max_output_tokens": 4, "extra_body": {"client_request_id": key}}
    assert other.responses.create(**again, metadata={"b": "2", "a": "1"}, temperature=None).id == first
    events = list(client.responses.create(**again, metadata={"a": "1", "b": "2"}, stream=True))
    assert {event.response.id for event in events if hasattr(event, "response")} == {first}
    by_header = {**again, "extra_body": None, "extra_headers": {"idempotency-key": key}}
    more: dict[str, Any] = {"metadata": {"a": "1", "b": "2"}, "stream_options": {"include_obfuscation": False}}
    assert client.responses.create(**by_header, **more).id == first
    with opened(other_url, gateway) as socket:
        for lane in ("another", None):
            lanes = {} if lane is None else {"stream_id": lane}
            ask(socket, client_request_id=key, max_output_tokens=4, metadata={"a": "1", "b": "2"}, **lanes)
            assert turn(socket)[-1]["response"]["id"] == first
    assert len(llm.chats()) == 1


@pytest.mark.parametrize(
    "changed",
    [{"input": "other"}, {"max_output_tokens": 5}, {"instructions": "x"}, {"background": True}, {"store": False}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_turn_under_the_same_key_is_a_conflict(client: Any, changed: dict[str, Any]) -> None:
    key = new_id("key_")
    asked = {"model": "fake", "input": "hi", "extra_headers": {"idempotency-key": key}}
    client.responses.create(**asked)
    with pytest.raises(openai.ConflictError) as refused:
        client.responses.create(**{**asked, **changed})
    assert refused.value.code == "idempotency_key_reused"


def copied(redis: Any, mine: bytes, theirs: bytes, _: str) -> None:
    redis.set(mine, redis.get(theirs))


def renamed(redis: Any, mine: bytes, theirs: bytes, _: str) -> None:
    redis.rename(theirs, mine)


def unsealed(redis: Any, mine: bytes, _: bytes, response_id: str) -> None:
    """As the version before wrote claims, with the right body."""
    redis.set(mine, f"{response_id} {'0' * 64}")


def of_another_type(redis: Any, mine: bytes, _: bytes, response_id: str) -> None:
    redis.delete(mine)
    redis.hset(mine, "response", response_id)


def cut(redis: Any, mine: bytes, _: bytes, __: str) -> None:
    redis.set(mine, redis.get(mine)[:40])


@pytest.mark.parametrize("forge", [copied, renamed, unsealed, of_another_type, cut])
@pytest.mark.parametrize("whose", ["another tenant's", "the same key's"])
def test_a_forged_claim_gives_nobody_elses_response(
    forge: Forge, whose: str, client: Any, gateway: GatewayFixture, gateway_url: str, installation: Installation
) -> None:
    stranger = gateway if whose == "the same key's" else other_project(gateway, gateway_url)
    with installation.redis.client() as redis:
        before = set(redis.keys("idem:*"))
        theirs = sdk(gateway_url, stranger).responses.create(
            model="fake", input="hi", instructions="CANARY", extra_headers={"idempotency-key": new_id("key_")}
        )
        (their_claim,) = set(redis.keys("idem:*")) - before
        mine = {"model": "fake", "input": "hi", "extra_headers": {"idempotency-key": new_id("key_")}}
        own = client.responses.create(**mine)
        (my_claim,) = set(redis.keys("idem:*")) - before - {their_claim}
        forge(redis, my_claim, their_claim, theirs.id)
        with pytest.raises(openai.InternalServerError) as refused:
            client.responses.create(**mine)
        assert refused.value.code == "stored_data_damaged"
        assert "CANARY" not in str(refused.value)
        # Without a claim there is none: the turn is a new one.
        redis.delete(my_claim)
        assert client.responses.create(**mine).id not in {own.id, theirs.id}


def test_a_claim_in_redis_shows_neither_key_nor_response(client: Any, installation: Installation) -> None:
    with installation.redis.client() as redis:
        before = set(redis.keys("idem:*"))
        made = client.responses.create(model="fake", input="hi", extra_headers={"idempotency-key": "CANARY-key"})
        (name,) = set(redis.keys("idem:*")) - before
        assert b"CANARY" not in name + redis.get(name)
        assert made.id.encode() not in redis.get(name)


def test_the_key_of_a_deleted_response_is_free_at_once(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "_CLAIM_WAIT_SECONDS", 3600.0)
    asked = {"model": "fake", "input": "hi", "extra_headers": {"idempotency-key": new_id("key_")}}
    deleted = client.responses.create(**asked)
    client.responses.delete(deleted.id)
    again = client.responses.create(**asked)
    assert again.id != deleted.id
    assert client.responses.create(**asked).id == again.id


def other_project(gateway: GatewayFixture, url: str) -> GatewayFixture:
    """A key of a project of its own."""
    with httpx.Client(base_url=f"{url}/v1/organization", headers=dict(gateway.headers(gateway.admin_key))) as admin:
        project = admin.post("/projects", json={"name": "stranger"}).json()["id"]
        account = admin.post(f"/projects/{project}/service_accounts", json={"name": "bot"}).json()
    return GatewayFixture(gateway.settings, account["api_key"]["value"], "")
