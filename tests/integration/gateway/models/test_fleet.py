"""Pods that are found by the name of their service: over sockets, with certificates, while they come and go."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from cloister_common.errors import Unavailable
from cloister_common.internal import InternalTokens
from cloister_common.supervisor import Supervisor
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import free_port, served
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.model_settings import LlmSettings
from cloister_gateway.models import Catalog, ChatModel, ModelUpstream, open_upstream
from cloister_gateway.models.fleet import addresses_of

from tests.support.certificates import certificate_for
from tests.support.gateway import INTERNAL_TOKEN, secret_file

NAME = "cloister-llm-small.chat.svc.cluster.local"


@contextlib.asynccontextmanager
async def upstream(
    folder: Path, service: str, addresses: Sequence[str], *, trusted: Path | None = None
) -> AsyncIterator[ModelUpstream]:
    async def look_up(host: str) -> Sequence[str]:
        assert host == NAME
        return addresses

    llm = LlmSettings.model_validate(
        {"token_file": folder / "token", "tls": {"ca_file": trusted}, "look_up_seconds": 0.01, "outage_seconds": 0.01}
    )
    keyring = Keyring("gateway", FileRootKey(secret_file(folder, "root")), MemoryKeyStore())
    catalog = Catalog([ChatModel("fake", 2048, 512, service=service)])
    tokens = InternalTokens([INTERNAL_TOKEN.encode()])
    supervisor = Supervisor()
    async with open_upstream(catalog, llm, tokens, keyring, look_up=look_up) as made:
        made.start(supervisor)
        yield made
        await supervisor.close()


async def test_pods_that_come_and_go_are_followed_without_a_restart(tmp_path: Path) -> None:
    first, second = FakeLlm(token=INTERNAL_TOKEN), FakeLlm(token=INTERNAL_TOKEN)
    port, addresses = free_port(), ["127.0.0.1"]
    with served(first, port), served(second, port, host="127.0.0.2"):
        async with upstream(tmp_path, f"http://{NAME}:{port}", addresses) as llm:
            await llm.complete_chat("fake", {"messages": []}, tenant="t")
            assert len(first.requests) == 1
            addresses[:] = ["127.0.0.2"]
            async with asyncio.timeout(60):
                while not second.requests:
                    await llm.complete_chat("fake", {"messages": []}, tenant="t")
            before = len(first.requests)
            for number in range(5):
                await llm.complete_chat("fake", {"messages": []}, tenant="t", affinity=str(number))
            assert len(first.requests) == before


@pytest.mark.parametrize(("named", "trusted"), [(NAME, True), ("another.chat.svc.cluster.local", False)])
async def test_certificate_must_name_the_service_and_not_the_pods_address(
    tmp_path: Path, named: str, trusted: bool
) -> None:
    certificate, key = certificate_for(named, tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):  # It is asked for its load too, when the test ends.
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(healthy, "127.0.0.1", 0, ssl=context)
    async with server:
        service = f"https://{NAME}:{server.sockets[0].getsockname()[1]}"
        async with upstream(tmp_path, service, ["127.0.0.1"], trusted=certificate) as llm:
            if trusted:
                await llm.check("fake")
            else:
                with pytest.raises(Unavailable):
                    await llm.check("fake")


async def test_the_systems_resolver_is_asked() -> None:
    assert await addresses_of("localhost") == ["127.0.0.1"]
