"""A gateway dies while the model sums up: the turn goes on elsewhere, with one summary and no half of another."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

SUMMARY = "Ada wants the pump quiet."
MANAGED: Any = [{"type": "compaction", "compact_threshold": 1}]


def is_wish(body: dict[str, Any]) -> bool:
    return str(body["messages"][-1]["content"]).startswith("Sum up the conversation so far")


@pytest.fixture
def survivor(installed: GatewayFixture, process: GatewayProcess) -> Iterator[Any]:
    """The SDK at a gateway that lives on."""
    with installed.serve() as url:
        yield sdk(url, installed)


@pytest.mark.parametrize("made", [False, True], ids=["while it is made", "when it was made"])
def test_a_turn_that_is_taken_over_has_one_summary(
    installed: GatewayFixture, process: GatewayProcess, survivor: Any, llm: FakeLlm, made: bool
) -> None:
    doomed = sdk(process.url, installed)
    conversation = doomed.conversations.create()
    doomed.responses.create(model="fake", input="first", conversation=conversation.id)
    killed = False

    def respond(body: dict[str, Any]) -> list[str]:
        if not killed and is_wish(body) is not made:
            llm.hold_after = 0
        return [SUMMARY] if is_wish(body) else ["Hello", "."]

    llm.respond = respond
    asked = {"model": "fake", "input": "hi", "conversation": conversation.id, "context_management": MANAGED}
    stream = iter(doomed.responses.create(**asked, stream=True))
    response = next(stream).response
    with contextlib.suppress(httpx.TransportError, openai.APIError):
        for event in stream:
            if made and event.type == "response.output_item.done":
                break
            if not made and event.type == "response.in_progress":
                break
    wait_until(lambda: llm.running == 1, what="the model works")
    wait_until(lambda: sum(map(is_wish, llm.chats())) == 1, what="the summary is asked for")
    killed = True
    process.kill()
    llm.release()
    events = list(survivor.responses.retrieve(response.id, stream=True))
    final = events[-1].response
    assert (final.status, final.output_text) == ("completed", "Hello.")
    assert [item.type for item in final.output] == ["compaction", "message"]
    assert final.output[0].cloister["summary"] == SUMMARY
    assert final.truncation_details["summary"] == {"turns": 1, "status": "made"}
    assert sum(map(is_wish, llm.chats())) == (1 if made else 2)
    items = survivor.conversations.items.list(conversation.id, order="asc").data
    assert [item.type for item in items] == ["message", "message", "message", "compaction", "message"]
    assert SUMMARY in llm.chats()[-1]["messages"][0]["content"]
