"""The bundled Milvus as the chart starts and ends it: the rendered commands, with a real Milvus Lite."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cloister_common.testing.serving import free_port
from pymilvus import MilvusClient

from tests.support.helm import render
from tests.support.milvus import connected, listens
from tests.support.waiting import wait_until

POD_SECONDS = 10
"""What a stop may take."""


class ChartMilvus:
    """Both containers' processes; the rendered commands changed only in where data, port and files are."""

    def __init__(self, folder: Path) -> None:
        rendered = render("quickstart")
        spec = rendered.one("StatefulSet", "cloister-milvus")["spec"]["template"]["spec"]
        self.grace_seconds = spec["terminationGracePeriodSeconds"]
        self.port = free_port()
        self._commands = {container["name"]: container["command"] for container in spec["containers"]}
        self._folder = folder
        for name, text in rendered.one("ConfigMap", "cloister-milvus")["data"].items():
            text = text.replace("/run/cloister/config", str(folder)).replace('"/data"', f'"{folder / "data"}"')
            (folder / name).write_text(text.replace("19531", str(self.port)).replace("4C4B", f"{self.port:04X}"))
        # Of HAProxy only that it stays until it is told to end: the machine that tests need not have it.
        (folder / "haproxy").write_text(f"#!/bin/sh\ntouch {folder}/up\nexec sleep 600\n")
        (folder / "haproxy").chmod(0o755)
        self.children: list[subprocess.Popen[bytes]] = []

    def start(self, container: str) -> subprocess.Popen[bytes]:
        words = [word.replace("/run/cloister/config", str(self._folder)) for word in self._commands[container]]
        command = [sys.executable if words[0] == "python3" else words[0], *words[1:]]
        path = f"{self._folder}:{os.environ['PATH']}"
        child = subprocess.Popen(command, env={**os.environ, "PATH": path}, start_new_session=True)
        self.children.append(child)
        up = (lambda: listens(self.port)) if container == "milvus" else (self._folder / "up").exists
        wait_until(up, seconds=60)
        return child

    def client(self) -> MilvusClient:
        return connected(f"http://127.0.0.1:{self.port}")

    def remove(self) -> None:
        for child in self.children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(20)


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[ChartMilvus]:
    made = ChartMilvus(tmp_path)
    try:
        yield made
    finally:
        made.remove()


def rows(client: MilvusClient) -> int:
    client.load_collection("kept")
    (count,) = client.query("kept", output_fields=["count(*)"])
    return int(count["count(*)"])


def cpu_ticks(child: subprocess.Popen[bytes]) -> int:
    """Processor time it has used, in hundredths of a second."""
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_sigterm_ends_milvus_cleanly_and_in_time(pod: ChartMilvus) -> None:
    milvus = pod.start("milvus")
    client = pod.client()
    client.create_collection("kept", dimension=4)
    client.insert("kept", [{"id": number, "vector": [0.0, 0.1, 0.2, 0.3]} for number in range(100)])
    client.close()
    milvus.send_signal(signal.SIGTERM)
    assert milvus.wait(POD_SECONDS) == 0
    assert pod.grace_seconds >= POD_SECONDS
    pod.start("milvus")
    client = pod.client()
    assert rows(client) == 100
    client.close()


def test_a_call_that_runs_is_answered_before_milvus_ends(pod: ChartMilvus) -> None:
    milvus = pod.start("milvus")
    client = pod.client()
    client.create_collection("kept", dimension=64)
    batch = [{"id": number, "vector": [number / 10_000] * 64} for number in range(10_000)]
    answers: list[Any] = []
    inserting = threading.Thread(target=lambda: answers.append(client.insert("kept", batch)))
    inserting.start()
    idle = cpu_ticks(milvus)
    wait_until(lambda: cpu_ticks(milvus) > idle + 5, seconds=30)
    milvus.send_signal(signal.SIGTERM)
    inserting.join(30)
    assert answers[0]["insert_count"] == len(batch)
    assert milvus.wait(POD_SECONDS) == 0


def test_the_proxy_outlives_milvus(pod: ChartMilvus) -> None:
    milvus, proxy = pod.start("milvus"), pod.start("proxy")
    proxy.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        proxy.wait(1)
    milvus.send_signal(signal.SIGTERM)
    assert milvus.wait(POD_SECONDS) == 0
    assert proxy.wait(5) == 0
