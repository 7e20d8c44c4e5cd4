"""A page of a conversation's items is the page of all of them, and costs what is on it."""

from collections.abc import Callable
from typing import Any

import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.redis_server import RedisServer


def texts(items: Any) -> list[tuple[str, str]]:
    return [(item.content[0].text, item.status) for item in items]


def filled(client: Any, llm: FakeLlm) -> str:
    """A conversation with turns that got no answer at its end and in its middle, and deleted items at both."""
    conversation = str(client.conversations.create(items=[{"role": "user", "content": f"{n}"} for n in range(4)]).id)
    for number in range(3):
        llm.drop_after = 0
        client.responses.create(model="fake", input=f"not answered {number}", conversation=conversation)
        llm.drop_after = None
        client.responses.create(model="fake", input=f"asked {number}", conversation=conversation)
    llm.drop_after = 0
    client.responses.create(model="fake", input="not answered at the end", conversation=conversation)
    items = list(client.conversations.items.list(conversation, order="asc"))
    for item in (items[0], items[5], items[-2]):
        client.conversations.items.delete(item.id, conversation_id=conversation)
    return conversation


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_any_size_from_any_gateway_are_those_of_the_whole_list(
    order: str, client: Any, other: Any, llm: FakeLlm
) -> None:
    conversation = filled(client, llm)
    whole = texts(client.conversations.items.list(conversation, order="asc", limit=100).data)
    assert [status for text, status in whole if "not answered" in text] == ["incomplete"] * 4
    assert len(whole) == 4 + 3 * 3 + 1 - 3
    right = whole if order == "asc" else whole[::-1]
    for one in (client, other):
        for limit in range(1, len(whole) + 2):
            page = one.conversations.items.list(conversation, order=order, limit=limit)
            assert texts(page.data) == right[:limit]
            assert page.has_more == (limit < len(right))
        assert texts(one.conversations.items.list(conversation, order=order, limit=3)) == right


def test_the_newest_items_are_read_alone(
    make_gateway: Callable[..., GatewayFixture], redis_server: RedisServer
) -> None:
    gateway = make_gateway(responses={"history_bytes": 0})
    with gateway.serve() as url, redis_server.client() as redis:
        client = sdk(url, gateway)
        conversation = client.conversations.create().id
        for _ in range(10):
            client.conversations.items.create(
                conversation, items=[{"role": "user", "content": "x" * 1000} for _ in range(20)]
            )
        client.conversations.items.list(conversation, limit=1)
        before = redis.info("stats")["total_net_output_bytes"]
        (item,) = client.conversations.items.list(conversation, limit=1).data
        assert redis.info("stats")["total_net_output_bytes"] - before < 20_000, "of more than 200,000"
        assert item.content[0].text == "x" * 1000
