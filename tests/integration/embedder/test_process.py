"""The embedder as a process: ``python -m cloister_embedder``, its metrics, its log, its end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from cloister_common.testing.serving import free_port

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import ClientMaker, is_ready
from tests.support.models import MINILM, minilm_folder
from tests.support.process import Process

SECRET_TEXT = "zanzibar-umbrella-quotient"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(EMBEDDER_TOKEN)
    settings = {
        "server": {"port": free_port(), "metrics_port": free_port(), "shutdown_seconds": 5},
        "log": {"level": "debug"},
        "token_file": str(tmp_path / "token"),
        "models": {MINILM: {"kind": "text", "path": str(minilm_folder())}},
    }
    path = tmp_path / "embedder.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "cloister_embedder", "--config", str(config)]


class EmbedderProcess(Process):
    """The embedder with a settings file."""

    title = "the embedder"
    start_seconds = 180.0
    stop_seconds = 20.0

    def __init__(self, config: Path) -> None:
        super().__init__(config.with_suffix(".log"))
        self._config = config
        self.server = yaml.safe_load(config.read_text())["server"]
        self.url = f"http://127.0.0.1:{self.server['port']}"

    def command(self) -> list[str]:
        return command(self._config)

    def answers(self) -> bool:
        return is_ready(self.url)


@pytest.fixture
def process(config: Path) -> Iterator[EmbedderProcess]:
    embedder = EmbedderProcess(config)
    try:
        yield embedder.start()
    finally:
        embedder.kill()


async def test_process_serves_counts_logs_without_content_and_ends_cleanly(
    make_client: ClientMaker, process: EmbedderProcess
) -> None:
    server, url = process.server, process.url
    client = make_client(url)
    assert (await client.embed([SECRET_TEXT, SECRET_TEXT, "other"])).dimensions == 384
    headers = {"authorization": f"Bearer {EMBEDDER_TOKEN}", "x-header": SECRET_TEXT}
    for body in ({"model": MINILM, "input": [1], SECRET_TEXT: 1}, {"model": SECRET_TEXT, "input": SECRET_TEXT}):
        assert httpx.post(f"{url}/v1/embeddings?q={SECRET_TEXT}", json=body, headers=headers).status_code >= 400
    assert httpx.get(f"{url}/{SECRET_TEXT}", headers={"authorization": f"Bearer {SECRET_TEXT}"}).status_code == 404
    metrics = httpx.get(f"http://127.0.0.1:{server['metrics_port']}/metrics").text
    assert f'cloister_embedder_texts_total{{model="{MINILM}",outcome="duplicate"}} 1.0' in metrics
    assert "cloister_embedder_batch_seconds_bucket" in metrics
    assert process.stop() in {0, -signal.SIGTERM}
    log = process.log.read_text()
    assert {"model_loaded", "serving"} <= {json.loads(line)["event"] for line in log.splitlines()}
    for secret in (SECRET_TEXT, EMBEDDER_TOKEN):
        assert secret not in log + metrics


def test_damaged_weights_stop_the_start_with_one_sentence(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for source in minilm_folder().iterdir():
        if source.is_file():
            os.link(source, folder / source.name) if source.suffix != ".safetensors" else None
    weights = (minilm_folder() / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])
    settings = yaml.safe_load(config.read_text())
    settings["models"][MINILM]["path"] = str(folder)
    config.write_text(yaml.safe_dump(settings))
    result = subprocess.run(command(config), capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2
    assert "model.safetensors is damaged" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
