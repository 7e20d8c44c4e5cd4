"""A service as a process: TLS that renews, ports that are taken, a start that fails, an end that waits."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cloister_common.http import client_ssl_context, http_client
from cloister_common.settings import ClientTls
from cloister_common.testing.serving import free_port

from tests.support.certificates import certificate_for

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def server() -> dict[str, Any]:
    """The ``server`` section: free ports."""
    return {"port": free_port(), "metrics_port": free_port(), "shutdown_seconds": 5}


@pytest.fixture
def start(tmp_path: Path, server: dict[str, Any]) -> Iterator[Start]:
    """Starts the tiny service; whatever still runs at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def run(**more: Any) -> subprocess.Popen[str]:
        config = tmp_path / "tiny.yaml"
        config.write_text(yaml.safe_dump({"server": server} | more))
        command = [sys.executable, "-m", "tests.support.tiny_service", "--config", str(config)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextlib.asynccontextmanager
async def client(server: dict[str, Any], ca_file: Path | None = None) -> AsyncIterator[httpx.AsyncClient]:
    scheme = "https" if ca_file else "http"
    async with http_client(f"{scheme}://127.0.0.1:{server['port']}", tls=ClientTls(ca_file=ca_file)) as http:
        yield http


async def alive(server: dict[str, Any], ca_file: Path | None = None) -> None:
    """Waits until ``/livez`` answers."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):
                async with client(server, ca_file) as http:
                    if (await http.get("/livez")).is_success:
                        return
            await asyncio.sleep(0.1)


def served_certificate(server: dict[str, Any]) -> str:
    return ssl.get_server_certificate(("127.0.0.1", server["port"]), timeout=10)


async def test_renewed_certificate_is_served_without_a_restart(
    tmp_path: Path, server: dict[str, Any], start: Start
) -> None:
    certificate, key = certificate_for("127.0.0.1", tmp_path / "tls")
    server["tls"] = {"certificate_file": str(certificate), "key_file": str(key)}
    process = start()
    await alive(server, certificate)
    first = served_certificate(server)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server["port"], ssl=client_ssl_context(ClientTls(ca_file=certificate))
    )
    certificate_for("127.0.0.1", tmp_path / "tls")
    async with asyncio.timeout(30):
        while await asyncio.to_thread(served_certificate, server) == first:
            await asyncio.sleep(0.2)
    async with client(server, certificate) as fresh:
        assert (await fresh.get("/livez")).is_success, "new connections see the new certificate"
    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    assert answer.startswith(b"HTTP/1.1 200 OK"), "open connections go on"
    writer.close()
    await writer.wait_closed()
    assert process.poll() is None


async def test_client_without_the_right_authority_or_with_old_tls_gets_nothing(
    tmp_path: Path, server: dict[str, Any], start: Start
) -> None:
    certificate, key = certificate_for("127.0.0.1", tmp_path / "tls")
    stranger, _ = certificate_for("127.0.0.1", tmp_path / "stranger")
    server["tls"] = {"certificate_file": str(certificate), "key_file": str(key)}
    start()
    await alive(server, certificate)
    async with client(server, stranger) as http:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await http.get("/livez")
    old = ssl.create_default_context(cafile=str(certificate))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", server["port"]), timeout=10) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw, server_hostname="127.0.0.1")


@pytest.mark.parametrize("which", ["port", "metrics_port"])
def test_port_in_use_is_one_sentence_with_the_setting(server: dict[str, Any], start: Start, which: str) -> None:
    with socket.create_server(("127.0.0.1", server[which])):
        process = start()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = errors.strip().splitlines()
    assert f"127.0.0.1:{server[which]}" in line
    assert f"set server.{which}" in line


def test_certificate_and_key_that_do_not_belong_together_are_one_sentence(
    tmp_path: Path, server: dict[str, Any], start: Start
) -> None:
    certificate, _ = certificate_for("127.0.0.1", tmp_path / "one")
    _, key = certificate_for("127.0.0.1", tmp_path / "other")
    server["tls"] = {"certificate_file": str(certificate), "key_file": str(key)}
    process = start()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = errors.strip().splitlines()
    assert line.startswith("Cannot use the certificate")


def test_wrong_settings_are_one_sentence(start: Start) -> None:
    process = start(speed=3)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = errors.strip().splitlines()
    assert "speed" in line


@pytest.mark.parametrize(
    ("why", "sentence"),
    [("unforeseen", "The service could not start (RuntimeError)"), ("settings", "Redis is not what the settings say.")],
)
def test_start_that_fails_is_one_sentence_and_a_log_line_without_content(start: Start, why: str, sentence: str) -> None:
    process = start(fails_to_start=why)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = errors.strip().splitlines()
    assert line.startswith(sentence)
    assert '"event": "start_failed"' in output
    assert "secret" not in output + errors


async def test_open_request_is_finished_after_sigterm(server: dict[str, Any], start: Start) -> None:
    process = start(slow_seconds=1.0)
    await alive(server)
    async with client(server) as http, http.stream("GET", "/slow") as answer:
        pieces = answer.aiter_text()
        assert await anext(pieces) == "begun"
        process.send_signal(signal.SIGTERM)
        assert [piece async for piece in pieces] == ["ended"]
    await asyncio.to_thread(process.communicate, None, 30)
    assert process.returncode in {0, -signal.SIGTERM}


async def test_metrics_are_on_a_port_of_their_own(server: dict[str, Any], start: Start) -> None:
    start()
    await alive(server)
    async with client(server) as http:
        assert (await http.get("/metrics")).status_code == 404
    async with httpx.AsyncClient() as http:
        metrics = await http.get(f"http://127.0.0.1:{server['metrics_port']}/metrics")
    assert 'cloister_http_requests_total{method="GET",route="/livez",status="200"}' in metrics.text


async def test_another_log_level_is_taken_over_without_a_restart(
    tmp_path: Path, server: dict[str, Any], start: Start
) -> None:
    process = start(log={"level": "error"})
    await alive(server)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"server": server, "log": {"level": "info"}}))
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = await asyncio.to_thread(process.stdout.readline)
    assert json.loads(line)["event"] == "log_level_changed"
    async with client(server) as http:
        await http.get("/livez")
    assert process.poll() is None
