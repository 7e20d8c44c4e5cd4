"""History that is bounded: by a budget, by a summary that is made once, and by what callers have summed up."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_gateway.planning import UsageQuestion
from cloister_gateway.planning.forecast import Policy, turns_of

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until

WISH = "Sum up the conversation so far"
SUMMARY = "The pump is blue, and Ada wants it quiet."
SUMMED_UP = "Summary of what was said in this conversation before:"
TOKENS = 160
"""Of history: five turns of the fake pod's words, and a summary with two."""


def is_wish(body: dict[str, Any]) -> bool:
    return str(body["messages"][-1]["content"]).startswith(WISH)


def answers(body: dict[str, Any]) -> list[str]:
    return [SUMMARY] if is_wish(body) else [*["word "] * 19, "end"]


def question(number: int) -> str:
    return f"question {number} " + "about it " * 5


@pytest.fixture
def summing(make_gateway: Callable[..., GatewayFixture], llm: FakeLlm) -> Iterator[tuple[GatewayFixture, Any]]:
    """A gateway whose projects have their history summed up, and the SDK at it."""
    llm.respond = answers
    gateway = make_gateway(history={"policy": "summary", "tokens": TOKENS, "summary_tokens": 40})
    with gateway.serve() as url:
        yield gateway, sdk(url, gateway)


def wishes(llm: FakeLlm) -> list[dict[str, Any]]:
    return [body for body in llm.chats() if is_wish(body)]


def said(body: dict[str, Any]) -> str:
    return "\n".join(str(message["content"]) for message in body["messages"])


def ask(client: Any, count: int, **where: Any) -> list[Any]:
    return [client.responses.create(model="fake", input=question(number), **where) for number in range(count)]


def test_a_budget_drops_the_oldest_turns_several_at_a_time(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm
) -> None:
    llm.respond = answers
    most = 400
    gateway = make_gateway(history={"policy": "budget", "tokens": most})
    with gateway.serve() as url:
        client = sdk(url, gateway)
        responses = ask(client, 24, conversation=client.conversations.create().id)
    histories = [response.usage.cloister["history"] for response in responses]
    assert most / 2 < max(histories) <= most
    prompts = [body["messages"][:-1] for body in llm.chats()]
    kept = [now[: len(before)] == before for before, now in itertools.pairwise(prompts)]
    assert 0 < kept.count(False) <= 4, "most prompts begin with all of the one before"
    dropped = [response.truncation_details["dropped_messages"] for response in responses]
    assert dropped == sorted(dropped)
    assert dropped[-1] > 20
    assert wishes(llm) == []


def test_a_summary_is_made_once_and_stands_at_the_beginning_of_every_later_prompt(
    summing: tuple[GatewayFixture, Any], llm: FakeLlm
) -> None:
    _, client = summing
    conversation = client.conversations.create()
    responses = ask(client, 8, conversation=conversation.id)
    made = [response for response in responses if response.output[0].type == "compaction"]
    assert len(made) == len(wishes(llm)) == 1
    (item, answer) = made[0].output
    assert (item.cloister["summary"], answer.type) == (SUMMARY, "message")
    turns = item.cloister["turns"]
    assert made[0].truncation_details == {"dropped_messages": 0, "summary": {"turns": turns, "status": "made"}}
    at = responses.index(made[0])
    for response in responses[at + 1 :]:
        assert response.truncation_details["summary"] == {"turns": turns, "status": "kept"}
    assert all("summary" not in response.truncation_details for response in responses[:at])
    first, *later = [body for body in llm.chats() if not is_wish(body)][at:]
    assert len(later) == 2
    for body in (first, *later):
        assert SUMMARY in body["messages"][0]["content"]
        for number in range(at + 1):
            assert (question(number) in said(body)) is (number >= turns), "each turn once: summed up, or as it was said"
    # What a later prompt begins with is what the one before ended with.
    assert later[0]["messages"][: len(first["messages"])] == first["messages"]
    # The wish comes behind what the pod has in its cache from the turn before.
    wish, before = wishes(llm)[0], llm.chats()[at - 1]
    assert wish["messages"][0] == before["messages"][0]
    stored = client.conversations.items.list(conversation.id, order="asc", limit=50).data
    assert [one.id for one in stored if one.type == "compaction"] == [item.id]


def test_a_conversation_goes_on_with_its_summary_for_long_and_sums_that_up_in_turn(
    summing: tuple[GatewayFixture, Any], llm: FakeLlm
) -> None:
    _, client = summing
    previous: str | None = None
    made = 0
    for number in range(14):
        response = client.responses.create(model="fake", input=question(number), previous_response_id=previous)
        previous = response.id
        made += response.output[0].type == "compaction"
        assert response.usage.cloister["history"] <= TOKENS * 1.25
    assert len(wishes(llm)) == made
    assert 2 <= made <= 7, "not with each turn"
    assert SUMMARY in said(wishes(llm)[1])
    assert response.truncation_details["summary"]["turns"] >= 8


def test_where_there_is_no_summary_the_turn_drops_the_oldest_and_says_so(
    summing: tuple[GatewayFixture, Any], llm: FakeLlm
) -> None:
    _, client = summing
    conversation = client.conversations.create()
    llm.respond = lambda body: [""] if is_wish(body) else answers(body)
    responses = ask(client, 6, conversation=conversation.id)
    last = responses[-1]
    assert last.status == "completed"
    assert [item.type for item in last.output] == ["message"]
    assert last.truncation_details["summary"] == {"turns": 0, "status": "failed"}
    assert last.truncation_details["dropped_messages"] > 0
    assert last.usage.cloister["history"] <= TOKENS
    assert len(wishes(llm)) == 1, "not with each turn"
    llm.respond = answers
    (other,) = ask(client, 6, conversation=client.conversations.create().id)[-1:]
    assert other.truncation_details["summary"]["turns"] > 0, "another conversation has one"


def test_what_a_summary_was_made_of_takes_it_away_when_it_is_deleted(
    summing: tuple[GatewayFixture, Any], llm: FakeLlm
) -> None:
    _, client = summing
    conversation = client.conversations.create()
    ask(client, 6, conversation=conversation.id)
    items = client.conversations.items.list(conversation.id, order="asc", limit=50).data
    assert any(item.type == "compaction" for item in items)
    client.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    left = client.conversations.items.list(conversation.id, order="asc", limit=50).data
    assert not any(item.type == "compaction" for item in left)
    assert len(left) == len(items) - 2
    llm.respond = lambda body: ["Another."] if is_wish(body) else answers(body)
    ask(client, 1, conversation=conversation.id)
    assert SUMMARY not in said(llm.chats()[-1])
    assert question(0) not in said(wishes(llm)[-1])


def test_a_summary_is_settled_as_a_generation_of_its_own(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm
) -> None:
    llm.respond = answers
    rule = {"level": "project", "per": "month", "tokens": 1_000_000}
    policy = {"policy": "summary", "tokens": TOKENS, "summary_tokens": 40}
    gateway = make_gateway(history=policy, limits={"rules": {"month": rule}})
    with gateway.serve() as url:
        client = sdk(url, gateway)
        responses = ask(client, 6, conversation=client.conversations.create().id)
        assert len(wishes(llm)) == 1
        turns = sum(response.usage.total_tokens for response in responses)

        def used() -> int:
            counted = client.responses.input_tokens.count(model="fake", input="x")
            return int(counted.cloister["limits"][0]["used"])

        (body,) = wishes(llm)
        # (As the fake pod counts: words, one for each message, and one for what it answers in one piece.)
        wish = len(said(body).split()) + len(body["messages"]) + 1
        wait_until(lambda: used() == turns + wish, what="turns and summary are settled, and nothing is reserved")


def test_an_administrator_sets_a_projects_policy_on_every_gateway(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm
) -> None:
    llm.respond = answers
    gateway = make_gateway()
    with gateway.serve() as url, gateway.serve() as elsewhere:
        client = sdk(elsewhere, gateway)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
            (project,) = admin.admin.organization.projects.list().data
        route = f"/cloister/v1/projects/{project.id}/history_policy"
        headers = {"authorization": f"Bearer {gateway.admin_key}"}
        with (
            httpx.Client(base_url=url, headers=headers) as at_one,
            httpx.Client(base_url=elsewhere, headers=headers) as at_other,
        ):
            assert at_one.get(route).json()["policy"] == "all"
            body = {"policy": "summary", "tokens": TOKENS, "summary_tokens": 40}
            assert at_one.post(route, json=body).json() == {
                "object": "cloister.history_policy",
                "project_id": project.id,
                **body,
            }
            wait_until(lambda: at_other.get(route).json()["policy"] == "summary", what="the other gateway has it")
            ask(client, 6, conversation=client.conversations.create().id)
            assert len(wishes(llm)) == 1
            for wrong in ({"policy": "budget"}, {"policy": "all", "tokens": 100}, {"policy": "none"}):
                assert at_one.post(route, json=wrong).status_code == 400, wrong
            assert at_one.delete(route).json()["deleted"] is True
            assert at_one.get(route).json()["policy"] == "all"
            assert at_one.get(route.replace(project.id, "proj_unknown")).status_code == 404
        assert httpx.get(f"{url}{route}", headers={"authorization": f"Bearer {gateway.project_key}"}).status_code == 403


@pytest.mark.parametrize("policy", ["all", "budget", "summary"])
def test_the_plan_foresees_what_twenty_turns_send(
    make_gateway: Callable[..., GatewayFixture], llm: FakeLlm, policy: Policy
) -> None:
    llm.respond = answers
    bound = {} if policy == "all" else {"tokens": TOKENS}
    gateway = make_gateway(history={"policy": policy, **bound, "summary_tokens": 40})
    with gateway.serve() as url:
        client = sdk(url, gateway)
        responses = ask(client, 20, conversation=client.conversations.create().id)
    # As the fake pod counts: words, and one for each message, but none for what opens the answer.
    asked = UsageQuestion.model_validate(
        {
            "users": 1,
            "history_tokens": TOKENS,
            "summary_tokens": len(SUMMARY.split()) + len(SUMMED_UP.split()),
            "pod": {"context_tokens": 2048},
            "conversation": {
                "turns": 20,
                "system_tokens": 0,
                "message_tokens": len(question(0).split()),
                "answer_tokens": 20,
                "template_tokens": 1,
            },
        }
    )
    planned = list(turns_of(asked, policy))
    assert [response.usage.input_tokens for response in responses] == [turn.prompt - 1 for turn in planned]
    assert len(wishes(llm)) == sum(turn.summary > 0 for turn in planned)
    if policy == "summary":
        told = [response.truncation_details.get("summary", {"turns": 0})["turns"] for response in responses]
        assert told == [turn.dropped for turn in planned]
