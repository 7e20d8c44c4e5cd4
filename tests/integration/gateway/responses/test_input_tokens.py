"""How many tokens a turn's prompt would have, by OpenAI's route, against what the turn then says that it had."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture

TIME = {"type": "function", "name": "time", "parameters": {"type": "object", "properties": {}}, "strict": False}


def test_what_is_counted_is_what_the_turn_sends(client: Any, llm: FakeLlm, search: FakeRetriever) -> None:
    search.planted["vs_1"] = [found("The pump needs ISO 32.", file_id="file-pump", filename="pump.md")]
    conversation = client.conversations.create()
    client.responses.create(model="fake", input="hello there", conversation=conversation.id)
    asked = {"model": "fake", "input": "What does the pump need?", "conversation": conversation.id}
    files = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    for more in ({}, {"instructions": "Be brief."}, {"tools": [TIME]}, {"tools": [files]}):
        stored, generated = len(client.conversations.items.list(conversation.id).data), len(llm.chats())
        counted = client.responses.input_tokens.count(**asked, **more)
        assert counted.object == "response.input_tokens"
        assert len(client.conversations.items.list(conversation.id).data) == stored, "nothing was stored"
        assert len(llm.chats()) == generated, "nothing was generated"
        response = client.responses.create(**asked, **more)
        assert response.usage.input_tokens == counted.input_tokens, more
        parts, sent = counted.cloister["parts"], response.usage.cloister
        for split in (parts, sent):
            assert sum(split.values()) == counted.input_tokens
            assert split["history"] > 0 < split["new"]
            assert (split["system"] > 0) is ("instructions" in more or more.get("tools") == [files])
            assert (split["retrieved"] > 0) is (more.get("tools") == [files])
            assert (split["tools"] > 0) is (more.get("tools") == [TIME])
    alone = client.responses.input_tokens.count(model="fake", input="And in summer?")
    after = client.responses.input_tokens.count(model="fake", input="And in summer?", previous_response_id=response.id)
    assert alone.input_tokens < after.input_tokens


def test_what_no_turn_could_send_is_not_counted(client: Any, llm: FakeLlm) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        client.responses.input_tokens.count(model="fake", input="word " * 3000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as style:
        client.responses.input_tokens.count(model="fake", input="hi", personality="friendly")
    assert style.value.param == "personality"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.input_tokens.count(model="fake", input="hi", conversation="conv_unknown")
    assert unknown.value.param == "conversation"


def test_it_is_told_what_a_turn_would_take_of_a_limit(make_gateway: Callable[..., GatewayFixture]) -> None:
    rule = {"level": "project", "per": "month", "tokens": 5000, "requests": 10}
    gateway = make_gateway(limits={"rules": {"month": rule}})
    with gateway.serve() as url:
        client = sdk(url, gateway)
        counted = client.responses.input_tokens.count(model="fake", input="What does the pump need?")
        most = counted.cloister["most_output_tokens"]
        stands = {one["unit"]: one for one in counted.cloister["limits"]}
        assert stands["tokens"] == {
            "level": "project",
            "model": None,
            "unit": "tokens",
            "per": "month",
            "limit": 5000,
            "used": 0,
            "takes": counted.input_tokens + min(most, 2048 - counted.input_tokens),
        }
        assert (stands["requests"]["takes"], stands["requests"]["used"]) == (1, 0), "counting counts for nothing"
