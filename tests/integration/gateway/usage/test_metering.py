"""Every generation passes the meter once: reserved before a model works for it, settled however it ends."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from cloister_common.errors import TooManyRequests
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from cloister_gateway.runs.ending import Endings
from cloister_gateway.usage import Ending, Generation, PromptSize, Used
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.gateway import INTERNAL_TOKEN, GatewayFixture, first_keys, gateway_settings, secret_file
from tests.support.gateway_process import GatewayProcess
from tests.support.leaving import ask_and_leave
from tests.support.redis_server import RedisServer
from tests.support.sdk import closing
from tests.support.sockets import ask, opened, turn
from tests.support.waiting import wait_until

HELLO = [{"role": "user", "content": "hello there"}]
ANSWER_TOKENS = 7
"""What the fake pod answers with."""


class Settled(NamedTuple):
    generation: Generation
    used: Used
    ending: Ending


class Recorder:
    """A meter that remembers; with ``refuse`` it has nothing left."""

    def __init__(self) -> None:
        self.reserved: list[tuple[Generation, int]] = []
        self.settled: list[Settled] = []
        self.refuse = False

    async def reserve(
        self, generation: Generation, *, most_output_tokens: int, prompt_tokens: PromptSize | None = None
    ) -> None:
        if self.refuse:
            raise TooManyRequests("over the limit", retry_after=7)
        self.reserved.append((generation, most_output_tokens))

    def held_at(self, generation: Generation, prompt_tokens: PromptSize) -> str | None:
        return None

    def settle(self, generation: Generation, used: Used, ending: Ending) -> None:
        self.settled.append(Settled(generation, used, ending))

    def once(self) -> Settled:
        """What was settled, when something was: the one generation that was reserved."""
        wait_until(lambda: self.settled, what="a settlement")
        (reserved,) = self.reserved
        (settled,) = self.settled
        assert settled.generation == reserved[0]
        return settled


class Shared(NamedTuple):
    """One gateway over real Redis with a meter, a model pod and an embedder, for all tests of this file."""

    gateway: GatewayFixture
    url: str
    meter: Recorder
    llm: FakeLlm


@pytest.fixture(scope="module")
def shared(_redis_process: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    _redis_process.flush()
    folder, meter, llm = tmp_path_factory.mktemp("secrets"), Recorder(), FakeLlm(token=INTERNAL_TOKEN)
    embedder = FakeEmbedder(INTERNAL_TOKEN, models={"mini": "text", "ranker": "rerank"})
    with served(llm) as pod, served(embedder) as embedder_url:
        token = str(secret_file(folder, "token", INTERNAL_TOKEN))
        settings = gateway_settings(
            folder,
            _redis_process,
            models={"fake": {"urls": [pod], "context_tokens": 2048}},
            embedder={"url": embedder_url, "token_file": token},
            responses={"conversation_wait_seconds": 0.1},
        )
        gateway = first_keys(settings)
        with served(create_app(settings, meter=meter)) as url:
            yield Shared(gateway, url, meter, llm)


@pytest.fixture
def meter(shared: Shared) -> Recorder:
    """The meter, as new."""
    shared.meter.reserved, shared.meter.settled, shared.meter.refuse = [], [], False
    return shared.meter


@pytest.fixture
def llm(shared: Shared) -> FakeLlm:
    """The pod, as new."""
    shared.llm.hold_after, shared.llm.refuse_status, shared.llm.requests = None, None, []
    return shared.llm


@pytest.fixture
def installation(shared: Shared, meter: Recorder, llm: FakeLlm) -> GatewayFixture:
    return shared.gateway


@pytest.fixture
def url(shared: Shared) -> str:
    return shared.url


@pytest.fixture
def client(installation: GatewayFixture, url: str) -> Any:
    return closing(openai.OpenAI(base_url=f"{url}/v1", api_key=installation.project_key, max_retries=0, timeout=30))


def socket_turn(url: str, gateway: GatewayFixture) -> None:
    with opened(url, gateway) as socket:
        ask(socket, "hello")
        turn(socket)


def drain(stream: Any) -> None:
    for _ in stream:
        pass


CALLS: dict[str, tuple[str, int, Callable[[Any], object]]] = {
    "response": ("response", 1024, lambda c: c.responses.create(model="fake", input="hi")),
    "response, bounded": ("response", 9, lambda c: c.responses.create(model="fake", input="hi", max_output_tokens=9)),
    "response, streamed": (
        "response",
        1024,
        lambda c: drain(c.responses.create(model="fake", input="hi", stream=True)),
    ),
    "response, in the background": (
        "response",
        1024,
        lambda c: c.responses.create(model="fake", input="hi", background=True),
    ),
    "response, in a conversation": (
        "response",
        1024,
        lambda c: c.responses.create(model="fake", input="hi", conversation=c.conversations.create().id),
    ),
    "chat": ("chat", 2048, lambda c: c.chat.completions.create(model="fake", messages=HELLO)),
    "chat, two choices": (
        "chat",
        22,
        lambda c: c.chat.completions.create(model="fake", messages=HELLO, n=2, max_tokens=11),
    ),
    "chat, streamed": (
        "chat",
        2048,
        lambda c: drain(c.chat.completions.create(model="fake", messages=HELLO, stream=True)),
    ),
    "chat, streamed with usage": (
        "chat",
        2048,
        lambda c: drain(
            c.chat.completions.create(model="fake", messages=HELLO, stream=True, stream_options={"include_usage": True})
        ),
    ),
    "completions": (
        "completions",
        16,
        lambda c: c.completions.create(model="fake", prompt="hello there"),
    ),
    "completions, two choices": (
        "completions",
        22,
        lambda c: c.completions.create(model="fake", prompt="hello there", n=2, max_tokens=11),
    ),
    "completions, two texts, streamed with usage": (
        "completions",
        22,
        lambda c: drain(
            c.completions.create(
                model="fake",
                prompt=["hello", "there"],
                max_tokens=11,
                stream=True,
                stream_options={"include_usage": True},
            )
        ),
    ),
    "embeddings": ("embeddings", 0, lambda c: c.embeddings.create(model="mini", input=["one", "two"])),
    "rerank": (
        "rerank",
        0,
        lambda c: c.post("/rerank", cast_to=object, body={"model": "ranker", "query": "q", "documents": ["a", "b"]}),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_route_passes_the_meter_once(name: str, client: Any, meter: Recorder) -> None:
    kind, most, call = CALLS[name]
    call(client)
    settled = meter.once()
    generation, used = settled.generation, settled.used
    assert settled.ending == "completed"
    assert meter.reserved[0][1] == most
    assert generation.kind == kind
    assert generation.model == {"embeddings": "mini", "rerank": "ranker"}.get(kind, "fake")
    assert generation.tenant.startswith("proj_")
    assert generation.key_id.startswith("key_")
    choices = 2 if "two" in name else 1
    assert used.exact
    assert used.prompt > 0
    assert used.output == (ANSWER_TOKENS * choices if kind in {"response", "chat", "completions"} else 0)


def test_turn_over_a_socket_passes_the_meter_once(installation: GatewayFixture, url: str, meter: Recorder) -> None:
    socket_turn(url, installation)
    assert meter.once().generation.id.startswith("resp_")


def test_same_idempotency_key_is_the_same_generation(client: Any, meter: Recorder) -> None:
    made = [
        client.responses.create(model="fake", input="hi", extra_headers={"idempotency-key": "one"}) for _ in range(2)
    ]
    assert made[0].id == made[1].id == meter.once().generation.id


@pytest.mark.parametrize("name", CALLS)
def test_refused_generation_is_a_429_and_nothing_is_made(name: str, client: Any, meter: Recorder, llm: FakeLlm) -> None:
    meter.refuse = True
    with pytest.raises(openai.RateLimitError) as refused:
        CALLS[name][2](client)
    assert refused.value.response.headers["retry-after"] == "7"
    assert (llm.chats(), meter.settled) == ([], [])


def test_refused_response_leaves_its_idempotency_key_free(client: Any, meter: Recorder) -> None:
    meter.refuse = True
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="fake", input="hi", extra_headers={"idempotency-key": "two"})
    meter.refuse = False
    client.responses.create(model="fake", input="hi", extra_headers={"idempotency-key": "two"})
    assert meter.once().ending == "completed"


def test_turn_that_a_conversation_has_no_room_for_is_settled_unused(client: Any, meter: Recorder, llm: FakeLlm) -> None:
    conversation = client.conversations.create().id
    llm.hold_after = 1
    client.responses.create(model="fake", input="hi", conversation=conversation, background=True)
    wait_until(lambda: llm.running)
    with pytest.raises(openai.ConflictError):
        client.responses.create(model="fake", input="hi", conversation=conversation)
    (refused,) = meter.settled
    assert (refused.generation, refused.ending, refused.used.output) == (meter.reserved[1][0], "failed", 0)
    llm.release()
    wait_until(lambda: len(meter.settled) == 2)


@pytest.mark.parametrize("stream", [True, False])
def test_caller_that_leaves_a_chat_is_settled(
    stream: bool, installation: GatewayFixture, url: str, meter: Recorder, llm: FakeLlm
) -> None:
    llm.hold_after = 3
    body = {"model": "fake", "messages": HELLO, "stream": stream}
    ask_and_leave(f"{url}/v1/chat/completions", installation.headers(), body, llm)
    settled = meter.once()
    assert settled.ending == "cancelled"
    assert (settled.used.output >= 3) is stream


@pytest.mark.parametrize("path", ["chat/completions", "responses", "embeddings"])
@pytest.mark.parametrize("stream", [True, False])
def test_generation_that_fails_is_settled(
    path: str, stream: bool, installation: GatewayFixture, url: str, meter: Recorder, llm: FakeLlm
) -> None:
    llm.refuse_status = 400
    field = {"chat/completions": "messages", "responses": "input", "embeddings": "input"}[path]
    body: dict[str, Any] = {"model": "fake", field: HELLO, "stream": stream}
    if path == "embeddings":
        body = {"model": "unknown", "input": "a"}
    httpx.post(f"{url}/v1/{path}", headers=installation.headers(), json=body, timeout=30)
    assert meter.once().ending == "failed"


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_response_that_is_stopped_is_settled_with_what_it_used(
    how: str, client: Any, meter: Recorder, llm: FakeLlm
) -> None:
    llm.hold_after = 3
    made = client.responses.create(model="fake", input="hi", background=True)
    wait_until(lambda: llm.running)
    getattr(client.responses, how)(made.id)
    settled = meter.once()
    assert (settled.generation.id, settled.ending) == (made.id, "cancelled")


def test_gateway_that_goes_on_with_a_run_settles_it(
    installation: GatewayFixture, meter: Recorder, llm: FakeLlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was written before is counted by the pod's tokenizer, and that of the fake one counts words.
    monkeypatch.setattr(llm, "answer", [f" word{number}" for number in range(ANSWER_TOKENS)])
    process = GatewayProcess(tmp_path / "process", installation.settings)
    process.start()
    try:
        llm.hold_after = 3
        with openai.OpenAI(base_url=f"{process.url}/v1", api_key=installation.project_key, max_retries=0) as client:
            made = client.responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: llm.running)
    finally:
        process.kill()
    llm.release()
    wait_until(lambda: meter.settled)
    (settled,) = meter.settled
    assert (settled.generation.id, settled.generation.model, settled.ending) == (made.id, "fake", "completed")
    assert settled.generation.key_id.startswith("key_")
    assert settled.used.output == ANSWER_TOKENS


def test_gateway_that_hands_a_run_over_leaves_its_settlement_to_the_next(
    installation: GatewayFixture, meter: Recorder, llm: FakeLlm
) -> None:
    llm.hold_after = 3
    with served(create_app(installation.settings, meter=meter)) as first:
        with openai.OpenAI(base_url=f"{first}/v1", api_key=installation.project_key, max_retries=0) as client:
            client.responses.create(model="fake", input="hi", background=True)
        wait_until(lambda: llm.running)
    assert meter.settled == []
    llm.release()
    assert meter.once().ending == "completed"


def test_a_run_whose_end_was_written_unheard_is_settled_with_what_it_used(
    client: Any, meter: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Endings.write

    async def unheard(self: Endings, *args: Any) -> None:
        await write(self, *args)
        raise RedisConnectionError("the answer was lost")

    monkeypatch.setattr(Endings, "write", unheard)
    made = client.responses.create(model="fake", input="hi", background=True)
    settled = meter.once()
    final = client.responses.retrieve(made.id)
    assert (settled.generation.id, settled.ending, final.status) == (made.id, "completed", "completed")
    assert (settled.used.prompt, settled.used.output) == (final.usage.input_tokens, final.usage.output_tokens)
    assert settled.used.output > 0
