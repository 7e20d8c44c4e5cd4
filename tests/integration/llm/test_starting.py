"""A pod whose model still loads: who may learn how far it is, and what becomes of callers when vLLM takes over."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloister_common.doors import listen
from cloister_common.testing.serving import free_port
from cloister_llm.settings import LlmSettings
from cloister_llm.starting import herald as starting
from cloister_llm.starting.herald import end_herald

from tests.support.certificates import certificate_for
from tests.support.llm_herald import RunningHerald
from tests.support.waiting import until, wait_until

Start = Callable[..., RunningHerald]

_DYING = """
import sys, time
from pathlib import Path
from tests.support.llm_herald import RunningHerald
print(RunningHerald(Path(sys.argv[1])).port, file=sys.stderr, flush=True)
time.sleep(600)  # longer than the test: it is killed
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(**server: Any) -> RunningHerald:
            herald = RunningHerald(tmp_path, **server)
            stack.callback(herald.kill)
            return herald

        yield started


async def test_a_gateway_learns_how_far_the_model_is_and_nobody_is_told_that_the_pod_is_ready(start: Start) -> None:
    herald = start()
    async with httpx.AsyncClient(base_url=herald.url, timeout=60) as client:
        for phase in ("loading", "compiling"):
            herald.note(phase)
            told = await client.get("/readyz", headers=herald.headers)
            assert (told.status_code, told.json()["phase"]) == (503, phase)
        for method, path in (("GET", "/livez"), ("GET", "/health"), ("POST", "/v1/chat/completions")):
            refused = await client.request(method, path, headers=herald.headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
            assert refused.headers["retry-after"] == "1"
            assert "phase" not in refused.json()
        for headers in ({}, {"authorization": "Bearer another"}):
            stranger = await client.get("/readyz", headers=headers)
            assert (stranger.status_code, set(stranger.json())) == (503, {"error"})


async def test_it_shows_the_pods_certificate(start: Start, tmp_path: Path) -> None:
    certificate, key = certificate_for("127.0.0.1", tmp_path / "tls")
    herald = start(tls={"certificate_file": str(certificate), "key_file": str(key)})
    async with httpx.AsyncClient(
        base_url=herald.url, verify=ssl.create_default_context(cafile=str(certificate)), timeout=60
    ) as client:
        assert (await client.get("/readyz", headers=herald.headers)).json()["phase"] == "loading"


async def test_whoever_asks_while_vllm_takes_over_is_answered_by_one_of_the_two(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    herald = start()
    answers: list[int] = []

    async def succeed(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def ask_on() -> None:
        async with httpx.AsyncClient(base_url=herald.url, timeout=60) as client:
            while answers.count(200) < 5:
                answers.append((await client.get("/readyz")).status_code)

    asking = [asyncio.ensure_future(ask_on()) for _ in range(4)]
    await until(lambda: answers.count(503) >= 20, what="the first one answers")
    for name, value in herald.left.items():
        monkeypatch.setenv(name, value)
    await end_herald()
    before = answers.count(503)
    # Meanwhile nobody accepts, and whoever connects waits.
    server = await asyncio.start_server(succeed, sock=socket.socket(fileno=os.dup(herald.listener)))
    async with server:
        await asyncio.gather(*asking)
    assert answers.count(503) - before <= len(asking), "only what the first one had accepted is answered by it"
    assert set(answers) == {200, 503}


async def test_whoever_is_in_the_middle_of_a_handshake_when_vllm_takes_over_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_LAST_SECONDS", 60.0)
    certificate, key = certificate_for("127.0.0.1", tmp_path / "tls")
    (tmp_path / "token").write_text("0123456789abcdef" * 4)
    port = free_port()
    settings = LlmSettings.model_validate(
        {
            "token_file": tmp_path / "token",
            "model": {"name": "chat", "path": tmp_path},
            "engine": {"cache_dir": tmp_path},
            "server": {
                "port": port,
                "metrics_port": free_port(),
                "tls": {"certificate_file": certificate, "key_file": key},
            },
        }
    )
    listener = listen("127.0.0.1", port, setting="server.port")
    serving = asyncio.ensure_future(starting._serve(settings, listener))
    trust = ssl.create_default_context(cafile=str(certificate))
    async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=60) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # It is accepted before whoever came later is.
        assert (await client.get("/readyz")).status_code == 503
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: listener.fileno() == -1, what="it accepts nobody any more")
        await writer.start_tls(trust, server_hostname="127.0.0.1")
        assert not serving.done(), "its process is there"
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: pod\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"503"
        writer.close()
    await serving


async def test_a_pod_whose_herald_has_died_becomes_ready_all_the_same(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    herald = start()
    for name, value in herald.left.items():
        monkeypatch.setenv(name, value)
    os.kill(int(herald.left["CLOISTER_LLM_HERALD"]), signal.SIGKILL)
    await end_herald()
    await end_herald()


def test_a_vllm_that_dies_while_it_loads_leaves_its_port_free(tmp_path: Path) -> None:
    loading = subprocess.Popen([sys.executable, "-c", _DYING, str(tmp_path)], stderr=subprocess.PIPE)
    assert loading.stderr is not None
    with loading:
        port = int(loading.stderr.readline())
        wait_until(lambda: answers_at(port), what="it answers")
        loading.kill()

    def is_free() -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True

    wait_until(is_free, what="its port is free")


def answers_at(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=60).status_code == 503
    except httpx.TransportError:
        return False
