"""One installation of the quickstart for all tests here, in the order in which an operator would go through it.

``KUBECONFIG`` names the cluster, ``IMAGE_TAG`` the images that its nodes have (without it, the chart's version).
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai import OpenAI

from tests.support.cluster import Installation
from tests.support.waiting import wait_until

NAMESPACE = "cloister-e2e"


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The quickstart, installed in a namespace that is gone afterwards."""
    assert os.environ.get("KUBECONFIG"), "KUBECONFIG must name a cluster whose nodes have the images"
    values = {"image.tag": os.environ.get("IMAGE_TAG", "")}
    installed = Installation(NAMESPACE, tmp_path_factory.mktemp("operator"), values)
    _remove(installed)
    if _without_disruption_budgets(installed):
        installed.values["podDisruptionBudgets.enabled"] = "false"
    installed.install()
    yield installed
    if request.session.testsfailed:
        sys.stdout.write(installed.state())
    _remove(installed, wait=False)  # The cluster does it by itself, and whoever comes next waits for that.


def _remove(installed: Installation, *, wait: bool = True) -> None:
    """Removes the namespace. (Old clusters answer with a conflict where that is under way.)"""

    def phase() -> str:
        return installed.run(
            *("kubectl", "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "jsonpath={.status.phase}")
        )

    if phase() == "Active":
        installed.run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
    if wait:
        wait_until(lambda: not phase(), seconds=240, what="the namespace is gone", every=1)


def _without_disruption_budgets(installed: Installation) -> bool:
    """Whether the cluster is older than 1.21, which first had policy/v1."""
    return "policy/v1\n" not in installed.run("kubectl", "api-versions")


@pytest.fixture(scope="session")
def first_hour(installation: Installation) -> str:
    """What the manual's commands print from the first look to the first answer. They leave keys and CA in files."""
    return installation.follow(*installation.manual.blocks(5), *installation.manual.blocks(6))


@pytest.fixture(scope="session")
def trust(installation: Installation, first_hour: str) -> Iterator[Path]:
    """The chart's CA, known to every client of this process as an operator's shell would: by SSL_CERT_FILE."""
    path = installation.manual.folder / "cloister-ca.crt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield path


@pytest.fixture(scope="session")
def keys(installation: Installation, first_hour: str) -> dict[str, str]:
    """OPENAI_API_KEY and CLOISTER_ADMIN_KEY, made once."""
    lines = (installation.manual.folder / "cloister.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


Connect = Callable[[str], Any]


@pytest.fixture
def connect(installation: Installation, trust: Path, keys: dict[str, str]) -> Iterator[Connect]:
    """Opens the SDK on a Service or a pod, and closes it at the end of the test.

    It repeats what a 503 asks it to, as it does by itself: while pods die and start, the disk of a small node may be so
    busy that Redis waits seconds for its own writes.
    """
    with contextlib.ExitStack() as stack:

        def opened(target: str = "svc/cloister-gateway") -> Any:
            port = stack.enter_context(
                installation.forwarded(target, 443 if target.startswith("svc/") else 8080),
            )
            return stack.enter_context(
                OpenAI(base_url=f"https://localhost:{port}/v1", api_key=keys["OPENAI_API_KEY"], timeout=180)
            )

        yield opened


@pytest.fixture(scope="module")
def stack(installation: Installation, trust: Path, keys: dict[str, str]) -> Iterator[Any]:
    """What the end-to-end tests of tests/e2e know of a stack: addresses and keys, here through the Service."""
    model = next(iter(installation.pods("llm")))
    with (
        installation.forwarded("svc/cloister-gateway", 443) as port,
        installation.forwarded(f"pod/{model}", 9083) as metrics,
    ):
        yield SimpleNamespace(
            base_url=f"https://localhost:{port}/v1",
            api_key=keys["OPENAI_API_KEY"],
            admin_key=keys["CLOISTER_ADMIN_KEY"],
            settings={"ports": {"llm_metrics": metrics}},
        )


@pytest.fixture(scope="module")
def client(stack: Any) -> Iterator[Any]:
    """The unmodified SDK, without retries, so that no failure hides."""
    with OpenAI(base_url=stack.base_url, api_key=stack.api_key, max_retries=0, timeout=180) as opened:
        yield opened
