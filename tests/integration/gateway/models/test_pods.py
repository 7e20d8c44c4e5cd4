"""Pods fail before, at and after the first token; readers see one whole answer all the same."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served

from tests.integration.gateway.conftest import joined_text, sdk
from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture

ANSWER = ["The", " answer", " is", " whole", " and", " true", "."]


@pytest.fixture
def pods() -> list[FakeLlm]:
    return [FakeLlm(token=INTERNAL_TOKEN, answer=ANSWER) for _ in range(2)]


@pytest.fixture
def client_of_pods(make_gateway: Callable[..., GatewayFixture], pods: list[FakeLlm]) -> Iterator[Any]:
    with served(pods[0]) as first, served(pods[1]) as second:
        gateway = make_gateway(models={"fake": {"urls": [first, second], "context_tokens": 2048}})
        with gateway.serve() as url:
            yield sdk(url, gateway)


def fail(pod: FakeLlm, how: str, after: int) -> None:
    if how == "drop":
        pod.drop_after = after
    elif how == "error":
        pod.error_after = after
    else:
        pod.refuse_status = 500


@pytest.mark.parametrize("after", [0, 1, 3, 6])
@pytest.mark.parametrize("how", ["drop", "error"])
def test_the_answer_goes_on_where_readers_are_when_a_pod_fails(
    how: str, after: int, client_of_pods: Any, pods: list[FakeLlm]
) -> None:
    for pod in pods:
        # Whichever pod is asked first fails at that token; whichever is asked next is well.
        fail(pod, how, after)
        pod.delay_seconds = 0.01
        pod.respond = lambda _: _heal(pods)
    events = list(client_of_pods.responses.create(model="fake", input="hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert joined_text(events) == "".join(ANSWER)
    final = events[-1]
    assert (final.type, final.response.output_text) == ("response.completed", "".join(ANSWER))
    assert len([event for event in events if event.type == "response.output_item.added"]) == 1
    chats = [body for pod in pods for body in pod.chats()]
    continued = [body for body in chats if body.get("continue_final_message")]
    assert len(chats) >= 2
    if after > 0 and how == "drop":
        # (An error may come in one block with the first tokens; then nothing of it was shown, and all begins again.)
        assert continued[-1]["add_generation_prompt"] is False
        assert continued[-1]["messages"][-1]["role"] == "assistant"
        assert "".join(ANSWER).startswith(continued[-1]["messages"][-1]["content"])
        # The pod had said nothing of usage when it failed: the frame of the half answer counts as input.
        assert final.response.usage.input_tokens in {2, 3}


def test_a_pod_that_always_breaks_midway_does_not_keep_the_answer_from_the_other(
    client_of_pods: Any, pods: list[FakeLlm]
) -> None:
    pods[0].error_after = 1
    pods[0].delay_seconds = 0.03
    for _ in range(4):
        response = client_of_pods.responses.create(model="fake", input="hi")
        assert (response.status, response.output_text) == ("completed", "".join(ANSWER))


@pytest.mark.parametrize("how", ["drop", "refuse"])
def test_all_pods_down_fails_the_response_with_a_reason(how: str, client_of_pods: Any, pods: list[FakeLlm]) -> None:
    for pod in pods:
        fail(pod, how, 0)
    events = list(client_of_pods.responses.create(model="fake", input="hi", stream=True))
    assert [event.type for event in events] == ["response.created", "response.in_progress", "response.failed"]
    failed = events[-1].response
    assert (failed.status, failed.error.code) == ("failed", "server_error")
    assert "fake" in failed.error.message
    assert client_of_pods.responses.retrieve(failed.id).to_dict() == failed.to_dict()


def test_a_failed_answer_keeps_the_text_that_was_seen(client_of_pods: Any, pods: list[FakeLlm]) -> None:
    for pod in pods:
        pod.drop_after = 3
        pod.respond = lambda _: _break(pods)
    conversation = client_of_pods.conversations.create()
    events = list(client_of_pods.responses.create(model="fake", input="hi", stream=True, conversation=conversation.id))
    final = events[-1]
    assert final.type == "response.failed"
    assert final.response.output_text == joined_text(events)
    assert final.response.output_text == "The answer is"
    for pod in pods:
        pod.drop_after = pod.refuse_status = pod.respond = None
    assert client_of_pods.responses.create(model="fake", input="again", conversation=conversation.id).error is None


def test_an_answer_that_breaks_off_twice_at_one_place_is_not_tried_again(
    client_of_pods: Any, pods: list[FakeLlm]
) -> None:
    for pod in pods:
        pod.drop_after = 3
        pod.respond = lambda body: ANSWER if not body.get("continue_final_message") else _drop_at_once(pods)
    response = client_of_pods.responses.create(model="fake", input="hi")
    assert (response.status, response.output_text) == ("failed", "The answer is")
    assert "twice" in response.error.message
    assert len([body for pod in pods for body in pod.chats()]) == 3
    for pod in pods:
        pod.drop_after = pod.respond = None
    assert client_of_pods.responses.create(model="fake", input="hi").output_text == "".join(ANSWER)


def test_continuations_keep_to_the_limit_of_the_answer(client_of_pods: Any, pods: list[FakeLlm]) -> None:
    for pod in pods:
        pod.drop_after = 2
        pod.respond = lambda _: _heal(pods)
    response = client_of_pods.responses.create(model="fake", input="hi", max_output_tokens=4)
    assert (response.status, response.output_text) == ("incomplete", "The answer is whole")
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 4


def test_structured_output_that_broke_off_fails_and_is_never_begun_twice(
    client_of_pods: Any, pods: list[FakeLlm]
) -> None:
    for pod in pods:
        pod.drop_after = 2
        pod.respond = lambda _: _heal(pods)
    response = client_of_pods.responses.create(
        model="fake", input="hi", text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
    )
    assert (response.status, response.output_text) == ("failed", "The answer")
    assert "structured output" in response.error.message
    assert len([body for pod in pods for body in pod.chats()]) == 1


def _heal(pods: list[FakeLlm]) -> list[str]:
    """Lets every call but the first go well."""
    if sum(len(pod.chats()) for pod in pods) > 1:
        for pod in pods:
            pod.drop_after = pod.error_after = None
    return ANSWER


def _drop_at_once(pods: list[FakeLlm]) -> list[str]:
    for pod in pods:
        pod.drop_after = 0
    return ANSWER


def _break(pods: list[FakeLlm]) -> list[str]:
    """Lets this call be the last that any pod takes."""
    for pod in pods:
        pod.refuse_status = 500
    return ANSWER
