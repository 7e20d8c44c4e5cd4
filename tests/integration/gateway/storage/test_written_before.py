"""A gateway started on what the version before wrote reads all of it, and goes on with what that left unfinished.

``written_before.json`` was made by that version: secrets, the keys of its Redis without a lifetime, and what it said of
them through the API. One run broke off in the middle of its answer, another with its outcome written down.
"""

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from redis import Redis

from tests.support.gateway import INTERNAL_TOKEN, gateway_settings, secret_file
from tests.support.redis_server import RedisServer
from tests.support.sdk import closing
from tests.support.waiting import wait_until

pytestmark = pytest.mark.foreign_answers

WRITTEN: dict[str, Any] = json.loads(Path(__file__).with_name("written_before.json").read_text(encoding="utf-8"))
KNOWN: dict[str, Any] = WRITTEN["known"]


@dataclass
class Upgraded:
    client: Any
    llm: FakeLlm
    search: FakeRetriever


def restore(redis: Redis) -> None:
    raw = base64.b64decode
    for name, (kind, value) in WRITTEN["keys"].items():
        if kind == "string":
            redis.set(name, raw(value))
        elif kind == "hash":
            redis.hset(name, mapping={field: raw(content) for field, content in value.items()})
        elif kind == "set":
            redis.sadd(name, *value)
        elif kind == "zset":
            # As if it had been written a moment ago: else the streams of what has ended would be due at once.
            ended = {member: time.time() + 300 for member in value}
            redis.zadd(name, ended if name == "runs:ended" else value)
        else:
            for entry, fields in value:
                redis.xadd(name, {field: raw(content) for field, content in fields.items()}, id=entry)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    folder = tmp_path_factory.mktemp("upgraded")
    llm, search, redis = FakeLlm(token=INTERNAL_TOKEN), FakeRetriever(INTERNAL_TOKEN), RedisServer(folder / "redis")
    llm.answer = ["Hello", ", this", " is", " it."]
    for name, value in WRITTEN["secrets"].items():
        secret_file(folder, name, value)
    with contextlib.ExitStack() as stack:
        redis.start()
        stack.callback(redis.stop)
        restore(redis.client())
        settings = gateway_settings(
            folder,
            redis,
            models={"fake": {"urls": [stack.enter_context(served(llm))], "context_tokens": 2048}},
            retriever={"url": stack.enter_context(served(search)), "token_file": str(folder / "token")},
        )
        url = stack.enter_context(served(create_app(settings)))
        yield Upgraded(
            closing(openai.OpenAI(base_url=f"{url}/v1", api_key=WRITTEN["project_key"], max_retries=0)), llm, search
        )


@pytest.mark.parametrize(
    "written", KNOWN["responses"], ids=lambda response: response["output"][-1]["content"][0]["text"]
)
def test_responses_are_read_as_they_were(upgraded: Upgraded, written: dict[str, Any]) -> None:
    client = upgraded.client
    assert client.responses.retrieve(written["id"], include=["file_search_call.results"]).to_dict() == written
    items = [item.to_dict() for item in client.responses.input_items.list(written["id"], order="asc")]
    assert items == KNOWN["input"][written["id"]]


def test_a_conversation_is_read_as_it_was(upgraded: Upgraded) -> None:
    client, written = upgraded.client, KNOWN["conversation"]
    assert client.conversations.retrieve(written["id"]).to_dict() == written
    items = client.conversations.items.list(written["id"], order="asc", include=["file_search_call.results"])
    assert [item.to_dict() for item in items] == KNOWN["items"]


def test_events_are_read_as_they_were(upgraded: Upgraded) -> None:
    written = KNOWN["responses"][0]
    events = list(upgraded.client.responses.retrieve(written["id"], stream=True))
    assert [event.type for event in events] == KNOWN["kinds"]
    assert events[-1].sequence_number == KNOWN["last_number"]
    last = events[-1].response.to_dict()
    # Results of a search are shown to those who ask only.
    last["output"][0]["results"] = written["output"][0]["results"]
    assert last == written


def test_a_run_that_broke_off_is_finished_from_its_own_prompt(upgraded: Upgraded) -> None:
    client = upgraded.client

    def ended() -> bool:
        return bool(client.responses.retrieve(KNOWN["broken"]).status == "completed")

    wait_until(ended, what="the end of the run")
    response = client.responses.retrieve(KNOWN["broken"], include=["file_search_call.results"])
    assert response.output_text == "Hello, this is it."
    assert [result.filename for result in response.output[0].results] == ["moon.md", "sun.md"]
    assert response.output[0].results[0].attributes == {"year": 2024, "kind": "facts", "true": True, "share": 0.5}
    assert upgraded.search.searches == []
    items = client.conversations.items.list(KNOWN["broken_conversation"], order="asc")
    assert [item.type for item in items] == ["message", "file_search_call", "message"]
    continued = [chat["messages"] for chat in upgraded.llm.chats() if chat["messages"][-1]["content"] == "Hello, this"]
    assert any("The moon is made of rock." in messages[-3]["content"] for messages in continued)


def test_a_run_whose_end_was_decided_ends_so(upgraded: Upgraded) -> None:
    client = upgraded.client

    def ended() -> bool:
        return bool(client.responses.retrieve(KNOWN["ended"]).status == "failed")

    wait_until(ended, what="the end of the run")
    response = client.responses.retrieve(KNOWN["ended"])
    assert response.error.message == "The model stopped in the middle of its answer."
    assert response.usage.total_tokens == 9
    assert response.truncation_details == {"dropped_messages": 3}


def test_the_next_turns_know_what_was_said(upgraded: Upgraded) -> None:
    client, llm = upgraded.client, upgraded.llm
    client.responses.create(model="fake", input="next", conversation=KNOWN["conversation"]["id"])
    said = [message["content"] for message in llm.chats()[-1]["messages"]]
    assert said == ["Be brief.", "What is the moon?", "Rock.", "And the sun?", "A star.", "next"]
    chained = KNOWN["responses"][-1]["id"]
    client.responses.create(model="fake", input="three", previous_response_id=chained)
    said = [message["content"] for message in llm.chats()[-1]["messages"]]
    assert said == ["one", "A star.", "two", '{"a":"b"}', "three"]
