"""Models that rest: who may scale them, what the gateways are told, and that an upgrade leaves them as they are."""

from typing import Any

import pytest
import yaml
from cloister_gateway.models.catalog import models_of
from cloister_gateway.models.waking.records import Workload
from cloister_gateway.settings import GatewaySettings
from cloister_llm.settings import LlmSettings

from tests.chart.test_discovery import WATCHED, settings
from tests.chart.test_values import merged
from tests.support.helm import Refused, Rendered, render

TWO: dict[str, Any] = {
    "llm": {
        "models": {
            "night": {
                "name": "night",
                "mode": "serverless",
                "replicas": 3,
                "waking": {"idleSeconds": 60, "queue": 5, "deadlineSeconds": 120},
                "weights": {"folder": "night"},
            },
            "day": {"name": "day", "replicas": 2, "weights": {"folder": "day"}},
        }
    }
}
SLEEPS: dict[str, Any] = {
    "name": "sleeps",
    "mode": "sleep",
    "gpus": 1,
    "image": {"repository": "llm-cuda"},
    "waking": {"sleepLevel": 2},
    "weights": {"folder": "sleeps"},
}


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return render("quickstart", values=merged(WATCHED, TWO))


def test_gateways_may_scale_serverless_models_by_name_and_nothing_else(rendered: Rendered) -> None:
    _, *scaling = rendered.one("Role", "cloister-gateway")["rules"]
    assert scaling == [
        {
            "apiGroups": ["apps"],
            "resources": ["statefulsets/scale"],
            "resourceNames": ["cloister-llm-night"],
            "verbs": ["get", "patch"],
        }
    ]


def test_gateways_are_told_what_to_scale(rendered: Rendered) -> None:
    models = {model.name: model for model in models_of(settings(rendered).models)}
    assert (models["day"].mode, models["day"].waking) == ("dedicated", None)
    workload = rendered.one("StatefulSet", "cloister-llm-night")["metadata"]
    waking = models["night"].waking
    assert waking is not None
    assert waking.workload == Workload(workload["namespace"], "statefulsets", workload["name"])
    assert (waking.replicas, waking.idle_seconds, waking.queue, waking.deadline_seconds) == (3, 60, 5, 120)


def test_an_upgrade_leaves_the_pods_of_a_serverless_model_to_the_gateways(rendered: Rendered) -> None:
    assert "replicas" not in rendered.one("StatefulSet", "cloister-llm-night")["spec"]
    assert rendered.one("StatefulSet", "cloister-llm-day")["spec"]["replicas"] == 2


def test_pods_that_are_to_sleep_may() -> None:
    asleep = render("quickstart", values={"llm": {"models": {"sleeps": SLEEPS}}})
    told: GatewaySettings = settings(asleep)
    waking = next(model.waking for model in models_of(told.models) if model.name == "sleeps")
    assert waking is not None
    assert (waking.workload, waking.sleep_level) == (None, 2)
    config = yaml.safe_load(asleep.one("ConfigMap", "cloister-llm-sleeps")["data"]["llm.yaml"])
    assert LlmSettings.model_validate(config).engine.sleep
    assert asleep.one("StatefulSet", "cloister-llm-sleeps")["spec"]["replicas"] == 1
    assert not [item for item in asleep.objects if "rbac" in item["apiVersion"]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (TWO, "is serverless, and llm.discovery.kind is dns"),
        ({"llm": {"models": {"sleeps": {**SLEEPS, "gpus": 0, "image": {"repository": "llm"}}}}}, "and no GPU"),
        (
            {"llm": {"models": {"sleeps": {**SLEEPS, "adapters": {"claim": "adapters"}}}}},
            r"takes adapters and has waking\.sleepLevel: 2",
        ),
    ],
)
def test_what_could_not_wake_is_refused_with_the_mend(values: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        render("quickstart", values=values)
