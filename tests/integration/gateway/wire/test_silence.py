"""Streams that wait say so: a comment at least every few seconds, which SDKs pass over."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import joined_text, sdk
from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until

SECONDS = 0.1
LONG = 15 * SECONDS
"""So long that the first comment goes out before its end, should the machine stand still meanwhile."""
HI: Any = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": HI},
    "responses": {"input": "hi"},
}


@pytest.fixture
def quiet(make_gateway: Callable[..., GatewayFixture]) -> GatewayFixture:
    return make_gateway(responses={"keep_alive_seconds": SECONDS})


@pytest.fixture
def quiet_url(quiet: GatewayFixture) -> Iterator[str]:
    with quiet.serve() as url:
        yield url


@pytest.mark.parametrize("held_after", [0, 2])
@pytest.mark.parametrize("path", BODIES)
def test_a_stream_that_waits_sends_comments_until_it_goes_on(
    path: str, held_after: int, quiet: GatewayFixture, quiet_url: str, llm: FakeLlm
) -> None:
    llm.hold_after = held_after
    body = {"model": "fake", "stream": True, **BODIES[path]}
    comments, text = 0, ""
    with httpx.stream("POST", f"{quiet_url}/v1/{path}", headers=quiet.headers(), json=body, timeout=20) as stream:
        assert (stream.status_code, stream.headers["cache-control"]) == (200, "no-cache")
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            text += f"{line}\n"
            comments += line == ": keep-alive"
            if comments == 3:
                llm.release()
    assert comments >= 3
    assert text.count("Hello") >= 1
    assert "\n\n: keep-alive\n\n" in f"\n\n{text}"
    assert text.rstrip().endswith("}" if path == "responses" else "data: [DONE]")


def test_the_sdk_passes_over_comments(quiet: GatewayFixture, quiet_url: str, llm: FakeLlm) -> None:
    llm.first_delay_seconds = 5 * SECONDS
    client = sdk(quiet_url, quiet)
    chunks = list(client.chat.completions.create(model="fake", messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "".join(llm.answer)
    events = list(client.responses.create(model="fake", input="hi", stream=True))
    assert joined_text(events) == "".join(llm.answer)


def test_an_error_after_the_first_comment_is_an_event_in_the_same_words(
    quiet: GatewayFixture, quiet_url: str, llm: FakeLlm
) -> None:
    llm.first_delay_seconds, llm.error_after = LONG, 0
    client = sdk(quiet_url, quiet)
    with pytest.raises(openai.APIError) as failed:
        list(client.chat.completions.create(model="fake", messages=HI, stream=True))
    assert not isinstance(failed.value, openai.APIStatusError)
    assert failed.value.code in {"model_failed", "request_failed"}


def test_an_error_before_it_keeps_its_status(quiet: GatewayFixture, quiet_url: str, llm: FakeLlm) -> None:
    llm.refuse_status = 400
    client = sdk(quiet_url, quiet)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="fake", messages=HI, stream=True)


def test_a_caller_that_leaves_while_it_waits_ends_the_generation(
    quiet: GatewayFixture, quiet_url: str, llm: FakeLlm
) -> None:
    llm.hold_after = 0
    body = {"model": "fake", "stream": True, **BODIES["chat/completions"]}
    url = f"{quiet_url}/v1/chat/completions"
    with httpx.stream("POST", url, headers=quiet.headers(), json=body, timeout=20) as stream:
        lines = stream.iter_lines()  # Held, since httpx leaves as soon as nobody holds them.
        next(line for line in lines if line)
        wait_until(lambda: llm.running == 1, what="the pod has been asked")
    wait_until(lambda: llm.running == 0, what="the generation ends")


def test_a_turn_that_waits_for_another_of_its_conversation_is_not_silent(
    quiet: GatewayFixture, quiet_url: str, llm: FakeLlm
) -> None:
    client = sdk(quiet_url, quiet)
    conversation = client.conversations.create().id
    llm.hold_after = 1
    first = client.responses.create(model="fake", input="one", conversation=conversation, background=True)
    body = {"model": "fake", "input": "two", "conversation": conversation, "stream": True}
    text = ""
    with httpx.stream("POST", f"{quiet_url}/v1/responses", headers=quiet.headers(), json=body, timeout=20) as stream:
        for line in stream.iter_lines():
            text += f"{line}\n"
            if line == ": keep-alive" and text.count(line) == 2:
                assert "response.created" not in text
                llm.release()
    assert "event: response.completed" in text
    assert client.responses.retrieve(first.id).status == "completed"


def test_a_wait_that_comes_to_nothing_is_told_as_the_last_event(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm
) -> None:
    gateway = make_gateway(responses={"keep_alive_seconds": SECONDS, "conversation_wait_seconds": LONG})
    with gateway.serve() as url:
        client = sdk(url, gateway)
        conversation = client.conversations.create().id
        llm.hold_after = 1
        client.responses.create(model="fake", input="one", conversation=conversation, background=True)
        (event,) = client.responses.create(model="fake", input="two", conversation=conversation, stream=True)
        llm.release()
    assert (event.type, event.code) == ("error", "conversation_locked")
