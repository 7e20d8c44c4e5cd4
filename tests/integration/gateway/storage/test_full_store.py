"""A state store without room: a turn is refused and told why; a run under way is finished when there is room."""

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


@pytest.fixture
def client(make_gateway: Callable[..., GatewayFixture]) -> Iterator[Any]:
    gateway = make_gateway()
    with gateway.serve() as url:
        yield sdk(url, gateway)


def test_a_run_that_meets_a_full_store_is_finished_when_there_is_room(
    client: Any, llm: FakeLlm, redis_server: RedisServer
) -> None:
    conversation = client.conversations.create()
    done = client.responses.create(model="fake", input="hi", background=True)
    wait_until(lambda: client.responses.retrieve(done.id).status == "completed", what="the end of a turn before")
    llm.hold_after = 2
    begun = client.responses.create(model="fake", input="hi", conversation=conversation.id, background=True)
    with client.responses.retrieve(begun.id, stream=True) as events:
        assert any(event.type == "response.output_text.delta" for event in events)
    with redis_server.client() as redis:
        redis.config_set("min-replicas-to-write", 1)  # as `make run` does on a full disk
        try:
            with pytest.raises(
                openai.InternalServerError, match="The state store takes nothing new: its disk"
            ) as refused:
                client.responses.create(model="fake", input="hi")
            assert refused.value.status_code == 503
            # The generation is let go of: what it says could not be stored.
            llm.release()
            wait_until(lambda: llm.running == 0, what="the end of the generation")
            assert client.responses.retrieve(begun.id).status == "in_progress"
            assert len(client.conversations.items.list(conversation.id).data) == 1
            with client.responses.retrieve(done.id, stream=True) as events:
                assert [event.type for event in events][-1] == "response.completed"
        finally:
            redis.config_set("min-replicas-to-write", 0)
    wait_until(lambda: client.responses.retrieve(begun.id).status == "completed", what="the end of the run")
    assert client.responses.retrieve(begun.id).output_text == "Hello, this is the fake."
    assert len(client.conversations.items.list(conversation.id).data) == 2
