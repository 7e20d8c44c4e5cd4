"""A plan of use, against sums made by hand, the prompts that turns really send, and what must hold for any question."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from cloister_common.errors import InvalidRequest
from cloister_gateway.planning import UsageQuestion, plan_usage
from cloister_gateway.planning.command import run
from cloister_gateway.planning.demand import demand_of
from cloister_gateway.planning.forecast import POLICIES, Tokens, conversation_tokens, turns_of
from cloister_gateway.planning.money import HOURS_A_MONTH
from cloister_gateway.planning.picture import draw
from cloister_gateway.planning.plan import plan_json
from cloister_gateway.planning.question import Pod
from cloister_gateway.prompt import PromptBuilder
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

SVG = "{http://www.w3.org/2000/svg}"


def asked(**fields: Any) -> UsageQuestion:
    return UsageQuestion.model_validate({"users": 100, **fields})


def plain(turns: int, **fields: Any) -> UsageQuestion:
    """A template that adds nothing, so that sums are easy."""
    said = {"turns": turns, "system_tokens": 50, "message_tokens": 20, "answer_tokens": 100, "template_tokens": 0}
    return asked(conversation={**said, **fields.pop("conversation", {})}, **fields)


def test_what_is_sent_grows_with_the_square_of_the_turns() -> None:
    for turns in (1, 2, 10, 20):
        sent = conversation_tokens(plain(turns), "all").prompt
        assert sent == turns * (50 + 20) + (20 + 100) * turns * (turns - 1) / 2


def test_what_two_prompts_begin_with_alike_is_cached() -> None:
    first, second, third = turns_of(plain(3, prefix_cache_share=1), "all")
    # The instructions are those of other conversations; then all that the prompt before had, and its answer.
    assert (first.cached, second.cached, third.cached) == (50, 50 + 120, 50 + 240)
    # Excerpts stand behind the history: the question and answer before them are computed again.
    with_excerpts = list(turns_of(plain(3, prefix_cache_share=1, conversation={"retrieved_tokens": 500}), "all"))
    assert [turn.cached for turn in with_excerpts] == [50, 50, 50 + 120]
    assert [turn.prompt for turn in with_excerpts] == [570, 690, 810]


def test_a_budget_bounds_each_prompt_and_a_summary_is_made_once_for_many_turns() -> None:
    question = plain(60, history_tokens=1200, summary_tokens=100)
    assert max(turn.history for turn in turns_of(question, "all")) == 59 * 120
    assert max(turn.history for turn in turns_of(question, "budget")) <= 1200
    summed_up = list(turns_of(question, "summary"))
    assert max(turn.history for turn in summed_up) <= 1200
    made = [turn for turn in summed_up if turn.summary]
    assert 0 < len(made) <= 60 / 6
    assert all(turn.summed_up > turn.summary == 100 for turn in made)


def size(messages: Sequence[dict[str, Any]]) -> int:
    return sum(len(message["content"].split()) for message in messages)


async def count(messages: Sequence[dict[str, Any]]) -> int:
    return size(messages)


async def test_the_plan_sends_what_turns_send() -> None:
    question = plain(40, pod={"context_tokens": 1500, "many_streams": 900, "one_stream": 60, "streams": 32})
    builder = PromptBuilder(count, budget=1500 - 100)
    history: list[dict[str, Any]] = []
    for planned in turns_of(question, "all"):
        new = [{"role": "user", "content": " ".join(["q"] * 20)}]
        prompt = await builder.build(
            instructions=" ".join(["s"] * 50), history=history, passages=[], new=new, drop=True
        )
        assert size(prompt.messages) == planned.prompt, planned
        assert prompt.dropped_messages == 2 * planned.dropped
        history += [*new, {"role": "assistant", "content": " ".join(["a"] * 100)}]


def test_littles_law_and_the_slowing_of_streams_agree() -> None:
    pod = Pod(streams=10, one_stream=50, many_streams=200, prompt_rate=1000)
    turn = Tokens(prompt=600, cached=100, output=100)
    demand = demand_of(0.5, turn, pod)
    assert demand.prompt_seconds == 0.5
    assert demand.at_once == pytest.approx(demand.turns_per_second * demand.answer_seconds)
    # By hand: a token takes 20 ms alone and 50 ms with ten, so (l − 1)/300 s more for each answer beside it.
    answers = 0.5 * (0.5 + 100 * (0.02 - 1 / 300)) / (1 - 0.5 * 100 / 300)
    assert demand.pods == 1
    assert demand.at_once == pytest.approx(answers)
    # What no pod can do twice over takes more of them, and none has more than it can.
    many = demand_of(50, turn, pod)
    assert many.at_once / many.pods <= 10
    assert many.pods >= 50 * 100 / 200
    with pytest.raises(ValueError, match="pods would be needed"):
        demand_of(1e9, turn, pod)


def test_dedicated_costs_all_hours_and_serverless_those_in_which_somebody_asks() -> None:
    price = {"gpu_hour": 2.0, "serverless_gpu_hour": 3.0, "idle_seconds": 600, "wake_seconds": 60}
    question = asked(users=1, conversations_per_user_and_day=1, price=price)
    costs = plan_usage(question).policies["all"].costs
    assert costs.dedicated.pods == 1
    assert costs.dedicated.cost == pytest.approx(2.0 * HOURS_A_MONTH)
    assert costs.serverless.cost < costs.dedicated.cost
    assert costs.break_even.gpu_hours == pytest.approx(HOURS_A_MONTH * 2 / 3)
    assert costs.break_even.conversations_a_day is None, "168 hours of work are fewer than 487"


def test_at_the_break_even_point_both_ways_cost_the_same() -> None:
    price = {"gpu_hour": 2.0, "serverless_gpu_hour": 3.0, "idle_seconds": 600, "wake_seconds": 0}
    round_the_clock = {"hours_a_day": 24, "days_a_month": HOURS_A_MONTH / 24, "peak_factor": 1}
    question = asked(users=1, conversations_per_user_and_day=1, price=price, week=round_the_clock)
    conversations = plan_usage(question).policies["all"].costs.break_even.conversations_a_day
    assert conversations is not None
    at_it = question.model_copy(update={"conversations_per_user_and_day": conversations})
    costs = plan_usage(at_it).policies["all"].costs
    assert costs.dedicated.cost == pytest.approx(costs.serverless.cost)
    busy = plan_usage(question.model_copy(update={"users": 5000})).policies["all"].costs
    assert busy.serverless.wakes < 1


@given(
    turns=st.integers(1, 60),
    message=st.integers(1, 400),
    answer=st.integers(1, 800),
    retrieved=st.integers(0, 1000),
    users=st.integers(1, 100_000),
    share=st.floats(0, 1),
    history=st.integers(201, 6000),
)
def test_any_plan_is_consistent(
    turns: int, message: int, answer: int, retrieved: int, users: int, share: float, history: int
) -> None:
    said = {"turns": turns, "message_tokens": message, "answer_tokens": answer, "retrieved_tokens": retrieved}
    plan = plan_usage(asked(users=users, conversation=said, prefix_cache_share=share, history_tokens=history))
    for policy in POLICIES:
        outlook = plan.policies[policy]
        for turn in outlook.turns:
            assert 0 <= turn.cached <= turn.prompt
            assert turn.prompt + turn.output <= plan.question.pod.context_tokens
            assert 0 <= turn.dropped < max(1, turn.turn)
        assert outlook.month.prompt == pytest.approx(outlook.conversation.prompt * users * 3 * 21)
        assert 0 < outlook.costs.dedicated.in_use <= 1
        assert outlook.costs.batch.gpu_hours <= outlook.costs.serverless.gpu_hours / 0.9 + 1e-9
    json.dumps(plan_json(plan), allow_nan=False)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"users": 0}, "users"),
        ({"conversation": {"message_tokens": 9000}}, "longer context"),
        ({"summary_tokens": 3000}, "saves nothing"),
        ({"pod": {"one_stream": 100, "many_streams": 50}}, "all streams together"),
        ({"pod": {"one_stream": 10, "streams": 4, "many_streams": 50}}, "no stream is faster"),
        ({"user": 5}, "user"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_the_mend(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        asked(**fields)


def test_a_load_that_nothing_carries_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="pods would be needed"):
        plan_usage(asked(users=100_000_000, conversations_per_user_and_day=10_000))


@pytest.mark.parametrize("turns", [1, 2, 300])
def test_the_picture_stands_alone_and_says_what_it_shows(turns: int) -> None:
    plan = plan_usage(asked(conversation={"turns": turns}, price={"currency": "<b>&"}))
    picture = ElementTree.fromstring(draw(plan))
    words = [element.text or "" for element in picture.iter(f"{SVG}text")]
    for word in ("turn of the conversation", "tokens of the prompt", "<b>& a month", "history: summary", "serverless"):
        assert word in words
    lines = list(picture.iter(f"{SVG}polyline"))
    assert [len((line.get("points") or "").split()) for line in lines] == [turns] * 3
    assert {element.tag.removeprefix(SVG) for element in picture.iter()} <= {
        "svg", "title", "rect", "text", "polyline", "line", "circle"
    }  # fmt: skip


def test_the_command_plans_from_a_models_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estimate = {"one_stream": 50.0, "many_streams": 400.0, "streams": 16, "prompt_rate": 4000.0}
    fits = {"fits": True, "capacity": {"context": 16384}, "estimate": estimate}
    found = {"plans": [{"fits": False}, {**fits, "tensor_parallel": 2, "pipeline_parallel": 1}]}
    (tmp_path / "plan.json").write_text(json.dumps(found))
    (tmp_path / "question.yaml").write_text("users: 10\nconversation: {turns: 4}\n")
    given = ["--question", str(tmp_path / "question.yaml"), "--model-plan", str(tmp_path / "plan.json")]
    svg = tmp_path / "plan.svg"
    assert run([*given, "--set", "price.gpu_hour=4", "--users", "50", "--json", "--svg", str(svg)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["question"]["users"] == 50
    assert printed["question"]["pod"] == {**estimate, "context_tokens": 16384, "gpus": 2}
    assert printed["policies"]["all"]["cost"]["dedicated"]["cost"] == pytest.approx(2 * 4 * HOURS_A_MONTH, abs=0.01)
    assert "polyline" in svg.read_text()
    assert run(given) == 0
    assert "pods at peak" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--users N"),
        (["--users", "5", "--set", "price"], "FIELD=VALUE"),
        (["--users", "5", "--set", "users.a=1"], "holds no fields"),
        (["--users", "5", "--set", "conversation.turn=1"], "conversation.turn"),
        (["--users", "5", "--question", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_the_command_says_what_to_do(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err
