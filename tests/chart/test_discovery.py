"""How the gateways find the models' pods: by names, or by the Kubernetes API with as few rights as that takes."""

from typing import Any

import pytest
import yaml
from cloister_gateway.models.catalog import models_of
from cloister_gateway.settings import GatewaySettings

from tests.support.helm import Refused, Rendered, render

API = {"ipBlock": {"cidr": "10.250.0.1/32"}}
WATCHED: dict[str, Any] = {"llm": {"discovery": {"kind": "kubernetes", "peers": [API]}}}


@pytest.fixture(scope="module")
def watching() -> Rendered:
    return render("quickstart", values=WATCHED)


def settings(rendered: Rendered) -> GatewaySettings:
    return GatewaySettings.model_validate(
        yaml.safe_load(rendered.one("ConfigMap", "cloister-gateway")["data"]["gateway.yaml"])
    )


def test_the_slices_of_each_models_service_are_watched(watching: Rendered) -> None:
    (model,) = models_of(settings(watching).models)
    assert model.service is None
    assert model.kubernetes is not None
    _, name = model.kubernetes.selector.split("=")
    service = watching.one("Service", name)
    assert model.kubernetes.selector == f"kubernetes.io/service-name={service['metadata']['name']}"
    assert model.kubernetes.namespace == service["metadata"]["namespace"]
    assert len(service["spec"]["ports"]) == 1, "the port needs no name"
    assert model.kubernetes.server_name == f"{name}.{service['metadata']['namespace']}.svc.cluster.local"


def test_the_gateways_may_read_endpoint_slices_of_their_namespace_and_nothing_else(watching: Rendered) -> None:
    rights = [item for item in watching.objects if "rbac" in item["apiVersion"]]
    assert sorted(item["kind"] for item in rights) == ["Role", "RoleBinding"]
    role, binding = watching.one("Role", "cloister-gateway"), watching.one("RoleBinding", "cloister-gateway")
    assert role["rules"] == [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]}
    ]
    account = watching.one("ServiceAccount", "cloister-gateway")
    (subject,) = binding["subjects"]
    assert (subject["name"], subject["namespace"]) == ("cloister-gateway", account["metadata"]["namespace"])
    for workload in watching.workloads():
        spec = (workload if workload["kind"] == "Pod" else workload["spec"]["template"])["spec"]
        watches = workload["metadata"]["name"] == "cloister-gateway"
        assert spec["serviceAccountName"] == ("cloister-gateway" if watches else "cloister")
        assert spec["automountServiceAccountToken"] is False
        tokens = [source for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", [])]
        assert any("serviceAccountToken" in source for source in tokens) == watches


def test_the_gateways_alone_reach_the_api_where_the_values_say_it_is(watching: Rendered) -> None:
    reach = [
        item["metadata"]["name"]
        for item in watching.of("NetworkPolicy")
        for rule in item["spec"].get("egress") or []
        if API in rule.get("to", [])
    ]
    assert reach == ["cloister-gateway"]


def test_by_names_nobody_has_an_account_with_rights() -> None:
    rendered = render("quickstart")
    assert not [item for item in rendered.objects if "rbac" in item["apiVersion"]]
    assert all(model.service for model in settings(rendered).models.values())


@pytest.mark.parametrize(
    ("peers", "said"),
    [([], "llm.discovery.peers is empty"), ([{"ipBlock": {"cidr": "0.0.0.0/0"}}], "opens the whole internet")],
)
def test_an_api_that_no_policy_names_is_refused_with_the_mend(peers: list[Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        render("quickstart", values={"llm": {"discovery": {"kind": "kubernetes", "peers": peers}}})
    render("quickstart", values={"llm": {"discovery": {"kind": "kubernetes"}}, "networkPolicy": {"enabled": False}})
