"""What every pod of every profile must have, and what must never be where it can be read."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.helm import Rendered, render

_RANDOM = re.compile(rb"[0-9a-f]{64}|[A-Za-z0-9]{48}")


def pods(rendered: Rendered) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod spec of everything that makes pods."""
    for workload in rendered.workloads():
        spec = workload["spec"] if workload["kind"] == "Pod" else workload["spec"]["template"]["spec"]
        yield workload["metadata"]["name"], spec


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_every_pod_meets_the_restricted_standard(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] >= 10000, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert not any("hostPath" in volume for volume in spec["volumes"]), name
        for container in containers(spec):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["runAsNonRoot"] is True, name
            assert all("hostPort" not in port for port in container.get("ports", [])), name


def test_no_value_can_weaken_the_pods() -> None:
    schema = json.dumps(render("quickstart").one("Deployment", "cloister-gateway"))
    assert "securityContext" in schema
    text = (render.__globals__["CHART"] / "values.yaml").read_text()
    assert not re.search(r"^\s*[a-zA-Z]*[sS]ecurityContext:", text, re.MULTILINE)


def test_no_pod_has_a_token_of_the_cluster(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["serviceAccountName"] == "cloister", name
    assert rendered.one("ServiceAccount", "cloister")["automountServiceAccountToken"] is False
    assert not [item for item in rendered.objects if "rbac" in item["apiVersion"]]


def test_every_container_has_memory_bounds_and_a_cpu_request(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        for container in containers(spec):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), name
            assert "memory" in resources["limits"], name


def test_every_writable_place_has_a_bound(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        for volume in spec["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], (name, volume)


def test_images_have_exact_tags(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        for container in containers(spec):
            tag = container["image"].rpartition(":")[2]
            assert tag not in {"", "latest"}, name
            assert "/" not in tag, name


def test_a_digest_decides_over_the_tag() -> None:
    digest = f"sha256:{'0' * 64}"
    rendered = render("quickstart", values={"gateway": {"image": {"digest": digest}}})
    (container,) = rendered.one("Deployment", "cloister-gateway")["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f":0.1.0@{digest}")


def test_no_secret_outside_secrets(rendered: Rendered) -> None:
    secrets = [base64.b64decode(value) for item in rendered.of("Secret") for value in item.get("data", {}).values()]
    secrets += [value.encode() for item in rendered.of("Secret") for value in item.get("stringData", {}).values()]
    generated = {found for secret in secrets for found in _RANDOM.findall(secret) if b"CERTIFICATE" not in secret}
    rest = json.dumps([item for item in rendered.objects if item["kind"] != "Secret"]).encode()
    # The digest of a settings file on its pods is as long as a secret and is none.
    rest = re.sub(rb'"cloister/config": "[0-9a-f]{64}"', b"", rest)
    assert not [secret for secret in generated if secret in rest]
    assert b"PRIVATE KEY" not in rest
    for name, spec in pods(rendered):
        for container in containers(spec):
            assert [item["name"] for item in container["env"]] == ["HOME"], name
            assert "envFrom" not in container, name


def test_generated_secrets_are_random_and_differ() -> None:
    first, second = render("quickstart"), render("quickstart")
    for secret in first.of("Secret"):
        other = second.one("Secret", secret["metadata"]["name"])
        for key, value in {**secret.get("data", {}), **secret.get("stringData", {})}.items():
            assert value != {**other.get("data", {}), **other.get("stringData", {})}[key]
    root_key = base64.b64decode(first.one("Secret", "cloister-vault")["data"]["root-key"])
    assert re.fullmatch(rb"[0-9a-f]{64}", root_key)


def test_what_data_depends_on_outlives_the_release(rendered: Rendered) -> None:
    kept = {
        item["metadata"]["name"]
        for item in rendered.objects
        if item["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    made = {item["metadata"]["name"] for item in rendered.objects}
    assert kept == made & {"cloister-vault", "cloister-identity", "cloister-blobs"}


def test_nothing_can_write_over_the_root_key() -> None:
    assert render("quickstart").one("Secret", "cloister-vault")["immutable"] is True


def test_existing_secrets_replace_generated_ones() -> None:
    rendered = render("production")
    assert not rendered.of("Secret")
    named = json.dumps([spec["volumes"] for _, spec in pods(rendered)])
    for secret in ("cloister-root-key", "cloister-pepper", "cloister-redis", "cloister-milvus", "cloister-s3"):
        assert f'"name": "{secret}"' in named


def test_each_part_holds_only_its_own_secrets(rendered: Rendered) -> None:
    allowed = {
        "gateway": {"root-key", "pepper", "llm-token", "embedder-token", "retriever-token", "redis-password"},
        "test": {"root-key", "pepper", "llm-token", "embedder-token", "retriever-token", "redis-password"},
        "embedder": {"embedder-token"},
        "llm": {"llm-token"},
        "retriever": {
            *("root-key", "embedder-token", "retriever-token", "milvus-password"),
            *("s3-access-key-id", "s3-secret-access-key"),
        },
        "redis": {"users.acl", "watch-password"},
        "milvus": {"authorization"},
    }
    for workload in rendered.workloads():
        part = workload["metadata"]["labels"]["app.kubernetes.io/component"].removesuffix("-ingest")
        spec = workload["spec"] if workload["kind"] == "Pod" else workload["spec"]["template"]["spec"]
        paths = {
            item["path"]
            for volume in spec["volumes"]
            if volume["name"] == "secrets"
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        }
        assert {path for path in paths if not path.endswith("ca.crt")} <= allowed[part], part
    authority = json.dumps([spec for _, spec in pods(rendered)])
    assert '"cloister-ca"' not in authority
