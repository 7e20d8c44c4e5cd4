"""One turn over HTTP with the unmodified SDK: OpenAI's events in OpenAI's order, and the response they add up to."""

from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import joined_text
from tests.support.gateway import GatewayFixture

OPENING = ["response.created", "response.in_progress"]
MESSAGE_OPENS = ["response.output_item.added", "response.content_part.added"]
MESSAGE_CLOSES = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]


def kinds(events: list[Any]) -> list[str]:
    """The types in order, runs of text deltas as one."""
    found: list[str] = []
    for event in events:
        if event.type != "response.output_text.delta" or found[-1:] != [event.type]:
            found.append(event.type)
    return found


def test_plain_text_streams_in_openais_order_and_adds_up(client: Any, llm: FakeLlm) -> None:
    events = list(client.responses.create(model="fake", input="hi there", stream=True))
    assert kinds(events) == [
        *OPENING, *MESSAGE_OPENS, "response.output_text.delta", *MESSAGE_CLOSES, "response.completed"
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    whole = "".join(llm.answer)
    assert joined_text(events) == whole
    final: Any = events[-1]
    response = final.response
    assert (response.status, response.output_text, response.error) == ("completed", whole, None)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 7)
    assert client.responses.retrieve(response.id).to_dict() == response.to_dict()
    done = {event.type: event for event in events}
    assert done["response.output_text.done"].text == whole
    assert done["response.output_item.done"].item.to_dict() == response.output[0].to_dict()


def test_answer_without_streaming_is_the_same_response(client: Any) -> None:
    response = client.responses.create(model="fake", input="hi", instructions="be kind", metadata={"a": "b"})
    assert response.output_text == "Hello, this is the fake."
    assert (response.instructions, response.metadata, response.status) == ("be kind", {"a": "b"}, "completed")
    assert response.completed_at is not None
    assert response.completed_at >= response.created_at


async def test_async_sdk_streams_too(gateway: GatewayFixture, gateway_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key=gateway.project_key) as client:
        stream = await client.responses.create(model="fake", input="hi", stream=True)
        assert [event.type async for event in stream][-1] == "response.completed"
        async with client.responses.stream(model="fake", input="hi") as managed:
            final = await managed.get_final_response()
        assert final.output_text == "Hello, this is the fake."


def test_empty_answer_still_has_a_message(client: Any, llm: FakeLlm) -> None:
    llm.answer = []
    events = list(client.responses.create(model="fake", input="hi", stream=True))
    assert kinds(events) == [*OPENING, *MESSAGE_OPENS, *MESSAGE_CLOSES, "response.completed"]
    final: Any = events[-1]
    assert (final.response.status, final.response.output_text) == ("completed", "")


def test_max_output_tokens_ends_the_answer_as_incomplete(client: Any) -> None:
    events = list(client.responses.create(model="fake", input="hi", stream=True, max_output_tokens=3))
    final: Any = events[-1]
    assert final.type == "response.incomplete"
    assert (final.response.status, final.response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (final.response.output_text, final.response.output[0].status) == ("Hello, this", "incomplete")
    assert final.response.usage.output_tokens == 3


def test_options_reach_the_model_and_nothing_of_the_callers_prompt_control(client: Any, llm: FakeLlm) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    client.responses.create(
        model="fake",
        input=[{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}],
        instructions="be kind",
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=50,
        text={"format": {"type": "json_schema", "name": "x", "schema": schema}},
    )
    body = llm.chats()[-1]
    assert body["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, 0.9, 50)
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert len(body["cache_salt"]) == 64


def test_background_is_queued_first_and_goes_on_unwatched(client: Any, llm: FakeLlm) -> None:
    llm.hold_after = 2
    created = client.responses.create(model="fake", input="hi", background=True)
    assert created.status in {"queued", "in_progress"}
    assert created.background is True
    llm.release()
    stream = client.responses.retrieve(created.id, stream=True)
    events = list(stream)
    assert kinds(events)[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert client.responses.retrieve(created.id).status == "completed"


def test_background_needs_store(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="fake", input="hi", background=True, store=False)
    assert refused.value.param == "store"


def test_half_made_response_can_be_retrieved_with_its_text_so_far(client: Any, llm: FakeLlm) -> None:
    llm.hold_after = 3
    with client.responses.create(model="fake", input="hi", stream=True) as stream:
        events: list[Any] = []
        for event in stream:
            events.append(event)
            if joined_text(events) == "Hello, this":
                break
        half = client.responses.retrieve(events[0].response.id)
        assert (half.status, half.output_text, half.output[0].status) == ("in_progress", "Hello, this", "in_progress")
        llm.release()
        assert [*events, *stream][-1].type == "response.completed"
