"""A model at 0 behind a small Kubernetes API, and gateways over one Redis that wake it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_gateway.models.waking import service

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture
from tests.support.kubernetes_api import KubernetesApi
from tests.support.workload import FakeWorkload

MakeResting = Callable[..., GatewayFixture]


@pytest.fixture
def pod() -> FakeLlm:
    """The model's one pod."""
    return FakeLlm(token=INTERNAL_TOKEN)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    """The API, which is served."""
    api = KubernetesApi()
    with api.serve(tmp_path):
        yield api


@pytest.fixture
def workload(api: KubernetesApi, pod: FakeLlm) -> Iterator[FakeWorkload]:
    """What is scaled: it follows."""
    workload = FakeWorkload(api, pod)
    with workload.run():
        yield workload


@pytest.fixture
def resting(
    make_gateway: Callable[..., GatewayFixture], workload: FakeWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeResting:
    """Makes a gateway, of which several may be served, whose model ``fake`` is serverless."""
    monkeypatch.setattr(service, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(service, "_SEE_TO_SECONDS", 0.1)

    def make(**waking: Any) -> GatewayFixture:
        scaled = {"namespace": "chat", "kind": "statefulset", "name": "llm-fake"}
        slices = {"namespace": "chat", "labels": {"kubernetes.io/service-name": "llm-fake"}}
        return make_gateway(
            models={
                "fake": {
                    "kubernetes": slices,
                    "context_tokens": 2048,
                    "mode": "serverless",
                    "waking": {"workload": scaled, "idle_seconds": 600, "deadline_seconds": 60, **waking},
                }
            },
            kubernetes={"kubeconfig_file": str(tmp_path / "kubeconfig")},
            llm={"token_file": str(tmp_path / "token"), "connect_seconds": 0.5, "outage_seconds": 0.1},
        )

    (tmp_path / "token").write_text(INTERNAL_TOKEN)
    return make
