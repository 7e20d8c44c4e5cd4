"""Models that think: what callers see of it, what goes back into the prompt, and what they may keep."""

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import Call, FakeLlm
from openai.types.responses import ResponseReasoningItem

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture

THOUGHT = ("I ", "see", ".")
KEEP = {"store": False, "include": ["reasoning.encrypted_content"]}
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    "strict": True,
}


@pytest.fixture
def thinker(llm: FakeLlm) -> FakeLlm:
    llm.reasoning = THOUGHT
    return llm


def test_the_sdk_reads_a_thought_and_then_the_answer(client: Any, thinker: FakeLlm) -> None:
    conversation = client.conversations.create()
    with client.responses.stream(model="fake", input="hi", conversation=conversation.id) as stream:
        events = list(stream)
        final = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    thought, message = final.output
    assert "".join(deltas) == thought.content[0].text == "I see."
    assert (thought.type, thought.summary, thought.encrypted_content) == ("reasoning", [], None)
    assert (message.type, final.output_text) == ("message", "Hello, this is the fake.")
    assert final.usage.output_tokens_details.reasoning_tokens == len(THOUGHT)
    assert client.responses.retrieve(final.id).output[0].to_dict() == thought.to_dict()
    listed = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.type for item in listed] == ["message", "reasoning", "message"]
    assert listed[1].to_dict() == thought.to_dict()


@pytest.mark.parametrize("kept", ["conversation", "chain", "caller"])
def test_the_next_turn_does_not_see_it(client: Any, thinker: FakeLlm, kept: str) -> None:
    conversation = client.conversations.create()
    by = {"conversation": conversation.id} if kept == "conversation" else {}
    first = client.responses.create(model="fake", input="hi", **by)
    question: Any = [{"role": "user", "content": "next"}]
    if kept == "chain":
        by = {"previous_response_id": first.id}
    elif kept == "caller":
        question = [{"role": "user", "content": "hi"}, *first.to_dict()["output"], *question]
    client.responses.create(model="fake", input=question, **by)
    assert thinker.chats()[-1]["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello, this is the fake."},
        {"role": "user", "content": "next"},
    ]


@pytest.mark.parametrize("kept", ["conversation", "chain", "caller", "sealed", "references"])
def test_within_a_loop_of_tools_it_goes_with_its_calls(client: Any, thinker: FakeLlm, kept: str) -> None:
    thinker.answer, thinker.calls = [], [Call("look", "{}")]
    conversation = client.conversations.create()
    by: dict[str, Any] = {"conversation": conversation.id} if kept == "conversation" else {}
    first = client.responses.create(model="fake", input="hi", tools=[TOOL], **by, **(KEEP if kept == "sealed" else {}))
    thought, call = first.output
    question: list[Any] = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    asked = {"role": "user", "content": "hi"}
    if kept == "chain":
        by = {"previous_response_id": first.id}
    elif kept == "caller":
        question = [asked, thought.to_dict(), call.to_dict(), *question]
    elif kept == "sealed":
        bare = {"type": "reasoning", "summary": [], "encrypted_content": thought.encrypted_content}
        question = [asked, bare, call.to_dict(), *question]
        by = {**KEEP}
    elif kept == "references":
        question = [asked, *({"type": "item_reference", "id": item.id} for item in (thought, call)), *question]
    thinker.answer = ["Rain."]
    second = client.responses.create(model="fake", input=question, tools=[TOOL], **by)
    assert second.output_text == "Rain."
    asked_then, called, returned = thinker.chats()[-1]["messages"]
    assert asked_then == asked
    assert (called["role"], called["reasoning"], called["tool_calls"][0]["id"]) == ("assistant", "I see.", call.call_id)
    assert returned == {"role": "tool", "tool_call_id": call.call_id, "content": "rain"}


def test_sealed_reasoning_is_the_projects_and_the_models(
    client: Any, gateway_url: str, stranger: GatewayFixture, thinker: FakeLlm
) -> None:
    thought = client.responses.create(model="fake", input="hi", **KEEP).output[0]
    assert isinstance(ResponseReasoningItem.model_validate(thought.to_dict()), ResponseReasoningItem)
    item = thought.to_dict()
    elsewhere = sdk(gateway_url, stranger)
    cut = {**item, "encrypted_content": item["encrypted_content"][:-8]}
    for caller, sent in ((elsewhere, item), (client, cut), (client, {**item, "encrypted_content": "gAAAAABo"})):
        with pytest.raises(openai.BadRequestError) as refused:
            caller.responses.create(model="fake", input=[sent, {"role": "user", "content": "x"}])
        assert (refused.value.code, refused.value.param) == (
            "invalid_encrypted_content",
            "input[0].encrypted_content",
        )
    altered = {**item, "content": [{"type": "reasoning_text", "text": "I say."}]}
    with pytest.raises(openai.BadRequestError) as refused:
        client.conversations.create(items=[altered])
    assert refused.value.param == "items[0].content"


def test_effort_reaches_the_pod_and_the_response_says_so(client: Any, thinker: FakeLlm) -> None:
    response = client.responses.create(model="fake", input="hi", reasoning={"effort": "low", "summary": "auto"})
    assert (response.reasoning.effort, response.reasoning.summary) == ("low", "auto")
    assert thinker.chats()[-1]["reasoning_effort"] == "low"
    response = client.responses.create(model="fake", input="hi", reasoning={"effort": "none"})
    assert [item.type for item in response.output] == ["message"]


def test_effort_of_a_model_that_does_not_think_is_refused_by_name(
    make_gateway: Callable[..., GatewayFixture], llm_url: str
) -> None:
    installed = make_gateway(models={"fake": {"urls": [llm_url], "context_tokens": 2048, "reasoning": False}})
    with installed.serve() as url:
        client = sdk(url, installed)
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="fake", input="hi", reasoning={"effort": "low"})
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "reasoning.effort")
        hello = [{"role": "user", "content": "hi"}]
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="fake", messages=hello, reasoning_effort="low")
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "reasoning_effort")
        assert client.responses.create(model="fake", input="hi", reasoning={"effort": "none"}).status == "completed"


def test_chat_completions_have_it_under_both_names(gateway_url: str, gateway: GatewayFixture, thinker: FakeLlm) -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
    url = f"{gateway_url}/v1/chat/completions"
    message = httpx.post(url, json=body, headers=gateway.headers()).json()["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"]) == ("I see.", "I see.")
    stream = sdk(gateway_url, gateway).chat.completions.create(**body, stream=True)
    deltas = [chunk.choices[0].delta.to_dict() for chunk in stream if chunk.choices]
    for name in ("reasoning", "reasoning_content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == "I see."


def test_an_answer_that_ended_in_a_thought_is_incomplete_and_was_no_answer(client: Any, thinker: FakeLlm) -> None:
    conversation = client.conversations.create()
    response = client.responses.create(model="fake", input="hi", conversation=conversation.id, max_output_tokens=2)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [(item.type, item.status) for item in response.output] == [("reasoning", "incomplete")]
    client.responses.create(model="fake", input="next", conversation=conversation.id)
    assert thinker.chats()[-1]["messages"] == [{"role": "user", "content": "next"}]
