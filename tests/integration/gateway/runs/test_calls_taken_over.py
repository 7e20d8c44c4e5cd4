"""A gateway or a pod dies in the middle of a call's arguments: the call comes whole, and once."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cloister_common.testing.llm import Call, FakeLlm
from cloister_common.testing.serving import served

from tests.integration.gateway.conftest import joined_text, sdk
from tests.integration.gateway.runs.test_takeover import CUT
from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
CALLS = (Call("weather", '{"city":"Bern"}'), Call("weather", '{"city":"Ulm"}'))


@pytest.fixture
def survivor(installed: GatewayFixture, process: GatewayProcess) -> Iterator[Any]:
    """The SDK at a gateway that lives on."""
    with installed.serve() as url:
        yield sdk(url, installed)


def check_whole(client: Any, events: list[Any], conversation: str, text: str) -> None:
    """``events`` tell of ``text`` and of both calls once, without a gap, as the conversation and the response do."""
    assert [event.sequence_number for event in events] == list(range(len(events)))
    response = events[-1].response
    assert response.status == "completed"
    assert joined_text(events) == text
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [(call.name, call.arguments) for call in CALLS]
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == "".join(call.arguments for call in CALLS)
    items = list(client.conversations.items.list(conversation, order="asc"))
    assert [item.to_dict() for item in items[1:]] == [item.to_dict() for item in response.output]
    sent = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls]
    after = client.responses.create(model="fake", input=sent, conversation=conversation)
    assert after.status == "completed"


@pytest.mark.parametrize("end", ["kill", "stop"])
@pytest.mark.parametrize("text", ["", "Let me see."])
def test_a_call_is_never_torn_when_its_gateway_ends(
    end: str, text: str, installed: GatewayFixture, process: GatewayProcess, survivor: Any, llm: FakeLlm
) -> None:
    llm.answer, llm.calls = [text] if text else [], CALLS
    # In the middle of the second call: the first is whole by then.
    llm.hold_after = (1 if text else 0) + 5 + 3
    doomed = sdk(process.url, installed)
    conversation = doomed.conversations.create().id
    stream = iter(
        doomed.responses.create(model="fake", input="hi", tools=[TOOL], conversation=conversation, stream=True)
    )
    seen = [next(stream), next(stream)]
    while joined_text(seen) != text:
        seen.append(next(stream))
    wait_until(lambda: llm.sent == llm.hold_after, what="the middle of the second call")
    getattr(process, end)()
    with contextlib.suppress(*CUT):
        seen += list(stream)
    llm.release()
    seen += list(survivor.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number))
    check_whole(survivor, seen, conversation, text)
    begun = [{"role": "assistant", "content": text}] if text else []
    assert llm.chats()[1]["messages"] == [{"role": "user", "content": "hi"}, *begun]
    assert llm.chats()[1]["tools"] == llm.chats()[0]["tools"]


@pytest.mark.parametrize("text", ["", "Let me see."])
def test_a_call_is_made_anew_where_a_pod_dies_in_it(
    text: str, make_gateway: Callable[..., GatewayFixture], llm: FakeLlm, llm_url: str
) -> None:
    answer = [text] if text else []
    dying = FakeLlm(token=INTERNAL_TOKEN, answer=answer, calls=CALLS, drop_after=len(answer) + 5)
    llm.answer, llm.calls = answer, CALLS
    with served(dying) as url:
        gateway = make_gateway(models={"fake": {"urls": [url, llm_url], "context_tokens": 2048}})
        with gateway.serve() as gateway_url:
            client = sdk(gateway_url, gateway)
            while not dying.chats():
                conversation = client.conversations.create().id
                events = list(
                    client.responses.create(
                        model="fake", input="hi", tools=[TOOL], conversation=conversation, stream=True
                    )
                )
            check_whole(client, events, conversation, text)
            # The call that broke off counts no more than what came of it.
            assert events[-1].response.usage.output_tokens == len(text.split()) + 10


def test_a_cancelled_answer_has_no_call(installed: GatewayFixture, llm: FakeLlm) -> None:
    llm.answer, llm.calls, llm.hold_after = ["See"], CALLS, 8
    with installed.serve() as url:
        client = sdk(url, installed)
        created = client.responses.create(model="fake", input="hi", tools=[TOOL], background=True)
        wait_until(lambda: client.responses.retrieve(created.id).output_text == "See")
        cancelled = client.responses.cancel(created.id)
    assert cancelled.status == "cancelled"
    assert [item.type for item in cancelled.output] == ["message"]
