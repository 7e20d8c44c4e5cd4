"""A serverless model: at 0 until somebody asks, woken once, watched while it wakes, and at 0 again when it is idle."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from prometheus_client import REGISTRY

from tests.bench.waking.__main__ import PHASES, main
from tests.integration.gateway.conftest import joined_text, sdk
from tests.integration.gateway.models.waking.conftest import MakeResting
from tests.support.kubernetes_api import KubernetesApi
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until
from tests.support.workload import FakeWorkload

CHAT: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = "Hello, this is the fake."


def last_use(redis: RedisServer) -> float:
    """When a gateway said last that the model is used, by Redis's clock."""
    with redis.client() as client:
        (key,) = client.keys("waking:{*}")
        return float(client.hget(key, "used") or 0)


def held() -> float:
    return REGISTRY.get_sample_value("cloister_model_held", {"model": "fake"}) or 0.0


def unwoken(phase: str) -> float:
    return REGISTRY.get_sample_value("cloister_model_unwoken_total", {"model": "fake", "phase": phase}) or 0.0


def test_two_gateways_wake_a_model_once_and_watchers_see_each_phase(
    resting: MakeResting, workload: FakeWorkload, api: KubernetesApi
) -> None:
    workload.reach = "scheduling"
    gateway = resting()
    with gateway.serve() as one, gateway.serve() as two, ThreadPoolExecutor(2) as threads:
        seen: list[list[Any]] = [[], []]

        def watch(at: int, url: str) -> None:
            for event in sdk(url, gateway).responses.create(model="fake", input="hi", stream=True):
                seen[at].append(event)

        def phases(at: int) -> list[str]:
            return [event.queue["phase"] for event in seen[at] if event.type == "response.queued"]

        def all_saw(phase: str) -> bool:
            return all(phase in phases(at) for at in (0, 1))

        watching = [threads.submit(watch, at, url) for at, url in enumerate((one, two))]
        for phase in ("scheduling", "pulling", "loading", "compiling", "ready"):
            workload.reach = phase
            wait_until(partial(all_saw, phase), what=phase)
        for done in watching:
            done.result(30)
        for events in seen:
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert events[-1].type == "response.completed"
            assert joined_text(events) == ANSWER
            assert all(event.response.status == "queued" for event in events if event.type == "response.queued")
        positions = [
            {event.queue["position"] for event in events if event.type == "response.queued"} for events in seen
        ]
        assert positions[0] | positions[1] == {1, 2}, "the two stand in one line"
    assert api.scaled == [1]
    assert workload.starts == 1


def test_a_model_that_is_idle_goes_to_zero_and_not_while_a_run_is_under_way(
    resting: MakeResting, workload: FakeWorkload, api: KubernetesApi, pod: FakeLlm, redis_server: RedisServer
) -> None:
    gateway = resting(idle_seconds=0.5)
    pod.hold_after = 2
    with gateway.serve() as url, gateway.serve() as other:
        running = sdk(url, gateway).responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: pod.running == 1)
        # The other gateway has nothing under way, and would let it rest: it looks again and again meanwhile.
        began = last_use(redis_server)
        wait_until(lambda: last_use(redis_server) > began + 1.5, what="three times the idle time is over")
        assert api.scaled == [1]
        pod.release()
        wait_until(lambda: api.scaled == [1, 0], what="it is scaled to none")
        wait_until(lambda: not workload.is_there)
        assert sdk(other, gateway).responses.retrieve(running.id).status == "completed"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_stateless_calls_are_held_too(path: str, stream: bool, resting: MakeResting, workload: FakeWorkload) -> None:
    gateway = resting()
    body = (
        {**CHAT, "stream": stream} if path.startswith("chat") else {"model": "fake", "prompt": "hi", "stream": stream}
    )
    with gateway.serve() as url:
        answer = httpx.post(f"{url}/v1/{path}", json=body, headers=gateway.headers(), timeout=60)
        assert answer.status_code == 200, answer.text


def test_a_pod_killed_while_it_loads_costs_nobody_an_answer(
    resting: MakeResting, workload: FakeWorkload, api: KubernetesApi
) -> None:
    workload.reach = "loading"
    gateway = resting()
    with gateway.serve() as url, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(sdk(url, gateway).chat.completions.create, **CHAT)
        wait_until(lambda: workload.starts == 1)
        workload.kill()
        wait_until(lambda: workload.starts == 2)
        workload.reach = "ready"
        assert asked.result(60).choices[0].message.content == ANSWER
    assert api.scaled == [1]


def test_a_wake_that_never_succeeds_is_a_503_that_says_how_far_it_came(
    resting: MakeResting, workload: FakeWorkload
) -> None:
    workload.reach = "loading"
    gateway = resting(deadline_seconds=1.5)
    before = unwoken("loading")
    with gateway.serve() as url:

        def refused() -> str:
            answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=gateway.headers(), timeout=60)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (503, "model_not_ready")
            assert "was not awake within 1.5 s: " in error["message"]
            assert int(answer.headers["retry-after"]) > 0
            return str(error["message"])

        def failed() -> str:
            response = sdk(url, gateway).responses.create(model="fake", input="hi")
            assert response.status == "failed"
            return str(response.error.message)

        # (What the first hear depends on how long the client of the API takes to be imported.)
        for ask in (refused, failed):
            wait_until(lambda ask=ask: "a pod loads it (loading)" in ask(), what="it says what was reached")  # type: ignore[misc]
    assert unwoken("loading") >= before + 2, "who looks after it can count them"


def test_a_model_that_did_not_wake_is_scaled_back_and_can_be_woken_again(
    resting: MakeResting, workload: FakeWorkload, api: KubernetesApi
) -> None:
    workload.reach = "scheduling"
    gateway = resting(idle_seconds=1, deadline_seconds=3)
    with gateway.serve() as one, gateway.serve() as two, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(
            lambda: list(sdk(one, gateway).responses.create(model="fake", input="hi", stream=True))
        )
        with pytest.raises(openai.InternalServerError) as refused:
            sdk(two, gateway).chat.completions.create(**CHAT)
        events = waiting.result(60)
        failed = events[-1]
        assert failed.type == "response.failed"
        for code, message in (
            (refused.value.code, str(refused.value)),
            (failed.response.error.code, failed.response.error.message),
        ):
            assert "was not awake within 3 s: no pod of it has a place yet (scheduling)" in message, code
        assert (refused.value.status_code, refused.value.code) == (503, "model_not_ready")
        phases = {event.queue["phase"] for event in events if event.type == "response.queued"}
        assert "scheduling" in phases <= {"scheduling", None}
        wait_until(lambda: api.scaled == [1, 0], what="it is scaled back")
        workload.reach = "ready"

        def answered() -> bool:
            response = sdk(one, gateway).responses.create(model="fake", input="hi")
            return bool(response.output_text == ANSWER)

        wait_until(answered, what="it wakes after all")
    assert api.scaled[:3] == [1, 0, 1]


def test_an_api_that_refuses_is_a_503_that_says_so(resting: MakeResting, api: KubernetesApi) -> None:
    api.refuse_scale = 403
    gateway = resting(deadline_seconds=2.5)
    with gateway.serve() as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=gateway.headers(), timeout=60)
        assert answer.status_code == 503
        assert "its workload cannot be scaled now" in answer.json()["error"]["message"]


def test_the_line_is_bounded_over_all_gateways_and_whoever_leaves_makes_room(
    resting: MakeResting, workload: FakeWorkload
) -> None:
    workload.reach = "loading"
    gateway = resting(queue=1)
    with gateway.serve() as one, gateway.serve() as two:
        first = sdk(one, gateway).responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: held() == 1)
        client = sdk(two, gateway)
        for refused in (
            partial(client.chat.completions.create, **CHAT),
            partial(client.responses.create, model="fake", input="hi"),
        ):
            with pytest.raises(openai.RateLimitError) as error:
                refused()
            assert error.value.code == "queue_full"
            assert int(error.value.response.headers["retry-after"]) > 0
        assert sdk(one, gateway).responses.cancel(first.id).status == "cancelled"
        wait_until(lambda: held() == 0)
        workload.reach = "ready"

        def answered() -> bool:
            try:
                return bool(sdk(two, gateway).chat.completions.create(**CHAT).choices)
            except openai.RateLimitError:
                return False  # Who has left is off the line a moment later.

        wait_until(answered)


def test_two_hundred_requests_in_twenty_cycles_are_all_answered(
    resting: MakeResting, workload: FakeWorkload, api: KubernetesApi
) -> None:
    gateway = resting(idle_seconds=0.3)
    with gateway.serve() as one, gateway.serve() as two, ThreadPoolExecutor(10) as threads:

        def ask(number: int) -> str:
            client = sdk((one, two)[number % 2], gateway)
            if number % 3:
                return str(client.responses.create(model="fake", input="hi").output_text)
            return str(client.chat.completions.create(**CHAT).choices[0].message.content)

        for cycle in range(20):
            assert list(threads.map(ask, range(10))) == [ANSWER] * 10
            # (A request that comes in the middle of the way to 0 is held as well: half of the cycles begin there.)
            gone: Callable[[], bool] = (
                (lambda: not workload.is_there) if cycle % 2 else (lambda: api.wanted(workload.path) == 0)
            )
            wait_until(gone, what="it rests")
        # (Where the machine stands still in the middle of a cycle, the model may rest and be woken once more.)
        cycles, rest = divmod(len(api.scaled), 2)
        assert (api.scaled, rest) == ([1, 0] * cycles, 0)
        assert cycles >= 20


def test_a_model_that_somebody_scaled_up_is_theirs_until_it_was_idle(
    resting: MakeResting, workload: FakeWorkload, api: KubernetesApi
) -> None:
    api.put_workload(workload.path, wanted=1)
    gateway = resting(idle_seconds=0.3)
    with gateway.serve():
        wait_until(lambda: api.scaled == [0], what="a model that was up at the start goes to 0 too")


def test_a_gateway_with_a_serverless_model_at_zero_is_ready(resting: MakeResting) -> None:
    gateway = resting()
    with gateway.serve() as url:
        assert "model fake" not in httpx.get(f"{url}/readyz", timeout=30).text
        (model,) = httpx.get(f"{url}/v1/models", headers=gateway.headers(), timeout=30).json()["data"]
        assert (model["cloister"]["ready"], model["cloister"]["mode"]) == (False, "serverless")


def test_the_clocks_of_waking_are_printed_by_phase(
    resting: MakeResting, workload: FakeWorkload, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = resting(idle_seconds=0.5)
    with gateway.serve() as url:
        key = gateway.headers()["authorization"].removeprefix("Bearer ")
        main(["--url", f"{url}/v1", "--key", key, "--idle", "0.5", "--times", "2"])
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    columns = ["asked", *PHASES, "answer", "total"]
    assert columns in printed
    rows = printed[printed.index(columns) + 1 :]
    clocks = [[float(clock) for clock in row] for row in rows if len(row) == len(columns) and row[0][:1].isdigit()]
    assert [sum(clock[:-1]) == pytest.approx(clock[-1], abs=0.05) for clock in clocks] == [True, True]
    assert workload.starts == 2
