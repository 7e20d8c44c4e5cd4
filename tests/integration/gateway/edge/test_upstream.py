"""The token path's client: whole events only, whatever the network makes of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cloister_common.errors import UpstreamFailed
from cloister_common.internal import InternalTokens
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.models import Catalog, ChatModel, ModelUpstream, open_upstream
from cloister_gateway.settings import LlmSettings
from starlette.types import Receive, Scope, Send

from tests.support.gateway import INTERNAL_TOKEN, secret_file

EVENTS = b'data: {"n":0}\n\ndata: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'


@dataclass
class RawPod:
    """Sends the bytes it is given, one piece at a time, and may break off afterwards."""

    pieces: Sequence[bytes]
    breaks: bool = False
    connections: set[object] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        self.connections.add(tuple(scope["client"]))
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0.002)
        if self.breaks:
            raise ConnectionError("the test breaks the stream")
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def upstream(folder: Path, *urls: str) -> AsyncIterator[ModelUpstream]:
    models = Catalog([ChatModel("fake", 2048, 1024, urls=urls)])
    llm = LlmSettings(token_file=folder / "token")
    keyring = Keyring("gateway", FileRootKey(secret_file(folder, "root")), MemoryKeyStore())
    async with open_upstream(models, llm, InternalTokens([INTERNAL_TOKEN.encode()]), keyring) as made:
        yield made


@pytest.mark.parametrize("size", [1, 3, 7, 16, 50, len(EVENTS)])
async def test_events_are_whole_however_they_were_cut_on_the_way(tmp_path: Path, size: int) -> None:
    pod = RawPod([EVENTS[at : at + size] for at in range(0, len(EVENTS), size)])
    with served(pod) as url:
        async with upstream(tmp_path, url) as llm:
            blocks = [block async for block in llm.stream_events("fake", {}, tenant="t")]
            payloads = [payload async for payload in llm.stream_chat("fake", {}, tenant="t")]
    assert all(block.endswith(b"\n\n") for block in blocks)
    assert b"".join(blocks) == EVENTS
    assert payloads == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert len(pod.connections) == 1


async def test_event_cut_in_half_by_a_dying_pod_is_never_passed_on(tmp_path: Path) -> None:
    with served(RawPod([EVENTS[:20]], breaks=True)) as url:
        async with upstream(tmp_path, url) as llm, aclosing(llm.stream_events("fake", {}, tenant="t")) as blocks:
            assert await anext(blocks) == b'data: {"n":0}\n\n'
            with pytest.raises(UpstreamFailed):
                await anext(blocks)


async def test_stream_without_its_end_is_a_failure(tmp_path: Path) -> None:
    with served(RawPod([EVENTS[:30]])) as url:
        async with upstream(tmp_path, url) as llm:
            with pytest.raises(UpstreamFailed):
                [payload async for payload in llm.stream_chat("fake", {}, tenant="t")]


async def test_closing_the_iterator_aborts_the_generation(tmp_path: Path) -> None:
    pod = FakeLlm(token=INTERNAL_TOKEN, hold_after=2)
    with served(pod) as url:
        async with upstream(tmp_path, url) as llm:
            async with aclosing(llm.stream_chat("fake", {"messages": []}, tenant="t")) as stream:
                await anext(stream)
                assert pod.running == 1
            async with asyncio.timeout(5):
                while pod.running:
                    await asyncio.sleep(0.01)
    assert pod.aborted == 1


async def test_conversation_keeps_its_pod(tmp_path: Path) -> None:
    pods = [FakeLlm(token=INTERNAL_TOKEN) for _ in range(3)]
    with served(pods[0]) as first, served(pods[1]) as second, served(pods[2]) as third:
        async with upstream(tmp_path, first, second, third) as llm:
            for _ in range(9):
                await llm.complete_chat("fake", {"messages": []}, tenant="t", affinity="conv_1")
    assert sorted(len(pod.requests) for pod in pods) == [0, 0, 9]


async def test_tokens_are_counted_by_the_models_own_tokenizer(tmp_path: Path) -> None:
    with served(FakeLlm(token=INTERNAL_TOKEN)) as url:
        async with upstream(tmp_path, url) as llm:
            assert len(await llm.tokenize("fake", prompt="one two three")) == 3
            assert len(await llm.tokenize("fake", messages=[{"role": "user", "content": "one two"}])) == 3
            await llm.check("fake")
