"""The token path's client: whole events only, whatever the network makes of them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cloister_common.errors import UpstreamFailed
from cloister_common.internal import InternalTokens
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.model_settings import LlmSettings
from cloister_gateway.models import Catalog, ChatModel, ModelUpstream, RequestFailed, health, open_upstream
from starlette.types import Receive, Scope, Send

from tests.support.gateway import INTERNAL_TOKEN, secret_file
from tests.support.payloads import payloads_of
from tests.support.waiting import until

EVENTS = b'data: {"n":0}\n\ndata: {"n":1}\n\ndata: {"n":2}\n\ndata: [DONE]\n\n'


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still is no pod that is ill."""
    monkeypatch.setattr(health, "_CHECK_SECONDS", 30.0)


@dataclass
class RawPod:
    """Sends the bytes it is given, one piece at a time, and breaks off afterwards, once ``breaks`` is set."""

    pieces: Sequence[bytes]
    breaks: threading.Event | None = None
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
        if self.breaks is not None:
            while not self.breaks.is_set():
                await asyncio.sleep(0.002)
            raise ConnectionError("the test breaks the stream")
        await send({"type": "http.response.body", "body": b""})


@dataclass
class FussyPod:
    """A pod that is well, and fails on requests that hold the word ``poison``."""

    how: str
    pod: FakeLlm = field(default_factory=lambda: FakeLlm(token=INTERNAL_TOKEN))
    health: int = 200
    poisoned: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            await send({"type": "http.response.start", "status": self.health, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        elif scope["type"] == "http" and b"poison" in (body := await read(receive)):
            self.poisoned += 1
            if self.how == "silence":
                await receive()
                return
            status = 500 if self.how == "refusal" else 200
            await send({"type": "http.response.start", "status": status, "headers": []})
            if self.how == "cut":
                raise ConnectionError("the test breaks the stream")
            await send({"type": "http.response.body", "body": b"{}"})
        elif scope["type"] == "http":
            given = iter([{"type": "http.request", "body": body}])

            async def again() -> Any:
                return next(given, None) or await receive()

            await self.pod(scope, again, send)
        else:
            await self.pod(scope, receive, send)


async def read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


@asynccontextmanager
async def upstream(folder: Path, *urls: str, **llm_settings: Any) -> AsyncIterator[ModelUpstream]:
    models = Catalog([ChatModel("fake", 2048, 1024, urls=urls)])
    llm = LlmSettings(**{"token_file": folder / "token", "loading_seconds": 0, **llm_settings})
    keyring = Keyring("gateway", FileRootKey(secret_file(folder, "root")), MemoryKeyStore())
    async with open_upstream(models, llm, InternalTokens([INTERNAL_TOKEN.encode()]), keyring) as made:
        yield made


@pytest.mark.parametrize("size", [1, 3, 7, 16, 50, len(EVENTS)])
async def test_events_are_whole_however_they_were_cut_on_the_way(tmp_path: Path, size: int) -> None:
    pod = RawPod([EVENTS[at : at + size] for at in range(0, len(EVENTS), size)])
    with served(pod) as url:
        async with upstream(tmp_path, url) as llm:
            blocks = [block async for block in llm.stream_events("fake", {}, tenant="t")]
            payloads = [payload async for payload in payloads_of(llm, "fake", {}, tenant="t")]
    assert all(block.endswith(b"\n\n") for block in blocks)
    assert b"".join(blocks) == EVENTS
    assert payloads == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert len(pod.connections) == 1


async def test_event_cut_in_half_by_a_dying_pod_is_never_passed_on(tmp_path: Path) -> None:
    breaks = threading.Event()
    with served(RawPod([EVENTS[:20]], breaks)) as url:
        async with upstream(tmp_path, url) as llm, aclosing(llm.stream_events("fake", {}, tenant="t")) as blocks:
            assert await anext(blocks) == b'data: {"n":0}\n\n'
            breaks.set()
            with pytest.raises(UpstreamFailed):
                await anext(blocks)


async def test_stream_without_its_end_is_a_failure(tmp_path: Path) -> None:
    with served(RawPod([EVENTS[:30]])) as url:
        async with upstream(tmp_path, url) as llm:
            with pytest.raises(UpstreamFailed):
                [payload async for payload in payloads_of(llm, "fake", {}, tenant="t")]


async def test_closing_the_iterator_aborts_the_generation(tmp_path: Path) -> None:
    pod = FakeLlm(token=INTERNAL_TOKEN, hold_after=2)
    with served(pod) as url:
        async with upstream(tmp_path, url) as llm:
            async with aclosing(payloads_of(llm, "fake", {"messages": []}, tenant="t")) as stream:
                await anext(stream)
                assert pod.running == 1
            await until(lambda: not pod.running, what="the generation ends")
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
            assert await llm.count_tokens("fake", [{"role": "user", "content": "one two"}]) == 3
            await llm.check("fake")


POISON = {"messages": [{"role": "user", "content": "poison"}]}
CONVERSATIONS = [f"conv_{number}" for number in range(12)]


async def served_by(llm: ModelUpstream, pods: Sequence[FussyPod]) -> list[int]:
    """How many of twelve conversations each pod serves."""
    before = [len(pod.pod.requests) for pod in pods]
    for conversation in CONVERSATIONS:
        await llm.complete_chat("fake", {"messages": []}, tenant="other", affinity=conversation)
    return [len(pod.pod.requests) - count for pod, count in zip(pods, before, strict=True)]


async def ask(llm: ModelUpstream, streamed: bool) -> None:
    if streamed:
        [block async for block in llm.stream_events("fake", POISON, tenant="t")]
    else:
        await llm.complete_chat("fake", POISON, tenant="t")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("how", ["refusal", "cut", "silence"])
async def test_a_request_that_fails_everywhere_takes_no_pod_from_others(
    tmp_path: Path, how: str, streamed: bool
) -> None:
    pods = [FussyPod(how) for _ in range(3)]
    limits = {"first_token_seconds": 1, "completion_seconds": 1} if how == "silence" else {}
    with served(pods[0]) as first, served(pods[1]) as second, served(pods[2]) as third:
        async with upstream(tmp_path, first, second, third, **limits) as llm:
            usual = await served_by(llm, pods)
            with pytest.raises(RequestFailed) as failed:
                await ask(llm, streamed)
            assert await served_by(llm, pods) == usual
    # Too late is told at once: a second pod would take as long again.
    assert sum(pod.poisoned for pod in pods) == (1 if how == "silence" else 2)
    assert failed.value.error_code == ("model_timeout" if how == "silence" else "request_failed")
    assert failed.value.headers() == {"x-should-retry": "false"}


async def test_a_pod_that_says_it_is_ill_after_a_failure_is_left_out(tmp_path: Path) -> None:
    pods = [FussyPod("refusal", health=503), FussyPod("none")]
    with served(pods[0]) as first, served(pods[1]) as second:
        async with upstream(tmp_path, first, second, outage_seconds=60) as llm:
            assert all(await served_by(llm, pods))
            while not pods[0].poisoned:
                await llm.complete_chat("fake", POISON, tenant="t")
            assert await served_by(llm, pods) == [0, len(CONVERSATIONS)]
