"""An installation of the chart on the cluster that ``KUBECONFIG`` names, as the end-to-end tests use it."""

import base64
import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.helm import program
from tests.support.manual import Manual
from tests.support.waiting import wait_until

__all__ = ["Failed", "Installation"]


class Failed(Exception):
    """helm or kubectl did not end well; the message is its own."""


class Installation:
    """One release of the chart in a namespace of its own, installed and changed by the manual's own commands.

    Args:
        folder: Where the files that the manual's commands write come to lie.
        values: What this cluster needs beside the quickstart profile, in helm's ``--set`` form.
    """

    release = "cloister"

    def __init__(self, namespace: str, folder: Path, values: Mapping[str, str]) -> None:
        self.namespace = namespace
        self.manual = Manual(namespace, folder)
        self.values = dict(values)

    def run(self, tool: str, *arguments: str, seconds: float = 60.0, text: str | None = None) -> str:
        """Runs helm or kubectl in the namespace and returns what it printed.

        Raises:
            Failed: It did not end well.
        """
        command = [str(program(tool)), "--namespace", self.namespace, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, input=text, check=False, timeout=seconds, env=dict(os.environ)
        )
        if done.returncode != 0:
            raise Failed(f"{tool} {' '.join(arguments)}\n{done.stderr}{done.stdout}")
        return done.stdout

    def install(self) -> None:
        """Section 4 of the manual; returns when every pod is ready."""
        (command,) = self.manual.blocks(4)
        self.follow(command.rstrip() + "".join(f" --set {name}={value}" for name, value in self.values.items()))

    def follow(self, *blocks: str) -> str:
        """Blocks of the manual; returns what they printed, when every pod is ready."""
        try:
            printed = self.manual.follow(*blocks)
            self.wait_until_whole()
        except AssertionError as failed:
            raise AssertionError(f"{failed}\n{self.state()}") from failed
        return printed

    def state(self) -> str:
        """What a person would look at first when it is not well."""
        pods = self.run("kubectl", "get", "pods", "-o", "wide")
        events = self.run("kubectl", "get", "events", "--sort-by=.lastTimestamp")
        logs = [
            f"-- {name}\n{self.run('kubectl', 'logs', name, '--all-containers', '--tail=15')}"
            for name, pod in self.pods().items()
            if pod["status"]["phase"] == "Running"
        ]
        return "\n".join([pods, *events.splitlines()[-25:], *logs])

    def get(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """The objects of a kind."""
        items: list[dict[str, Any]] = json.loads(self.run("kubectl", "get", kind, *arguments, "-o", "json"))["items"]
        return items

    def pods(self, part: str | None = None) -> dict[str, dict[str, Any]]:
        """The release's pods by name, of one part or of all."""
        labels = f"app.kubernetes.io/instance={self.release}"
        if part is not None:
            labels += f",app.kubernetes.io/component={part}"
        return {pod["metadata"]["name"]: pod for pod in self.get("pods", "-l", labels)}

    def secrets(self) -> dict[str, dict[str, str]]:
        """The content of every Secret of the chart's, by name."""
        return {
            item["metadata"]["name"]: item["data"]
            for item in self.get("secrets", "-l", f"app.kubernetes.io/instance={self.release}")
        }

    def wait_until_whole(self, seconds: float = 300.0) -> None:
        """Waits until every pod that should be there is there and ready, and each gateway finds all parts ready."""

        def whole() -> bool:
            # One program a round: each costs the pods that start a good part of a second of a processor.
            found = self.get("deployments,statefulsets,pods", "-l", f"app.kubernetes.io/instance={self.release}")
            pods = [item for item in found if item["kind"] == "Pod"]
            wanted = sum(item["spec"]["replicas"] for item in found if item["kind"] != "Pod")
            return (
                len(pods) == wanted
                and all(ready(pod) for pod in pods)
                and all(self._finds_all_ready(name) for name in self.pods("gateway"))
            )

        wait_until(whole, seconds=seconds, what="every pod ready", every=2)

    def _finds_all_ready(self, gateway: str) -> bool:
        try:
            with self.forwarded(f"pod/{gateway}", 8080) as port:
                # Only whether it answers is looked at here: the tests check certificates.
                return httpx.get(f"https://localhost:{port}/readyz", verify=False, timeout=10).status_code == 200
        except (Failed, httpx.TransportError):
            return False

    def deliver(self) -> None:
        """Has changed ConfigMaps and Secrets brought into the pods that run.

        The kubelet does that when it looks at a pod: once in 60 to 90 seconds, and when an annotation of it changes.
        """
        pods = ("pods", "-l", f"app.kubernetes.io/instance={self.release}")
        self.run("kubectl", "annotate", *pods, "--overwrite", f"cloister.test/looked-at={time.time_ns()}")

    def certificate_authority(self, folder: Path) -> Path:
        """The CA that a client needs, written into a file."""
        data = self.secrets()[f"{self.release}-gateway-tls"]["ca.crt"]
        path = folder / "cloister-ca.crt"
        path.write_bytes(base64.b64decode(data))
        return path

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """A port on this machine that leads to a pod or a Service."""
        command = [str(program("kubectl")), "--namespace", self.namespace, "port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forwarding:
            try:
                assert forwarding.stdout is not None
                line = forwarding.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if found is None:
                    raise Failed(f"{' '.join(command)}\n{line}")
                yield int(found.group(1))
            finally:
                forwarding.terminate()


def ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready and not on its way out."""
    conditions: Sequence[Mapping[str, str]] = pod["status"].get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions
    )
