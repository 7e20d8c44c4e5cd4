"""Every object, strictly by the schemas of the Kubernetes versions a cluster may have; and checkov's policies."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.helm import PROFILES, TOOLS, Rendered, render

VERSIONS = ("1.28", "1.31", "1.34", "1.37")

CUSTOM = {
    ("cert-manager.io/v1", "Certificate"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"),
    ("gateway.networking.k8s.io/v1alpha2", "TLSRoute"),
}
"""Kinds that Kubernetes' own schemas do not have."""

POLICIES_LEFT_OUT = {
    "CKV_K8S_11": "CPU limits throttle a token stream in the middle of a period; requests and memory limits bound pods",
    "CKV_K8S_43": "images are named by exact tag here, and by digest where the values give one",
    "CKV_K8S_15": "exact tags do not change, and an air-gapped node should not ask a registry at every start",
    "CKV_K8S_21": "the namespace is the release's",
    "CKV_K8S_8": "init containers and the test pod end by themselves",
    "CKV_K8S_9": "init containers and the test pod end by themselves",
}


@pytest.fixture
def manifests(rendered: Rendered, tmp_path: Path) -> Path:
    """The objects that Kubernetes itself knows, in one file."""
    native = [item for item in rendered.objects if (item["apiVersion"], item["kind"]) not in CUSTOM]
    path = tmp_path / "objects.yaml"
    path.write_text(yaml.safe_dump_all(native))
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_strictly_valid(manifests: Path, version: str) -> None:
    command = [str(TOOLS / "bin" / "kubernetes-validate"), "--strict", "--quiet", "-k", version, str(manifests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARN" not in done.stdout + done.stderr


def test_custom_kinds_are_only_made_when_asked_for() -> None:
    for profile in ("quickstart", "minimal"):
        assert not [item for item in render(profile).objects if (item["apiVersion"], item["kind"]) in CUSTOM]


def findings(report: str) -> Iterator[str]:
    results = json.loads(report)
    for result in results if isinstance(results, list) else [results]:
        for check in result["results"]["failed_checks"]:
            yield f"{check['check_id']} {check['check_name']}: {check['resource']}"


def test_policies_hold(tmp_path: Path) -> None:
    for profile in PROFILES:
        (tmp_path / f"{profile}.yaml").write_text(yaml.safe_dump_all(render(profile).objects))
    command = [
        *(
            str(TOOLS / "bin" / "checkov"),
            "--framework",
            "kubernetes",
            "--directory",
            str(tmp_path),
            "--output",
            "json",
        ),
        *("--output", "json", "--skip-check", ",".join(POLICIES_LEFT_OUT), "--quiet", "--compact", "--skip-download"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout, done.stderr
    assert list(findings(done.stdout)) == []
    passed = re.search(r'"passed": (\d+)', done.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 500
