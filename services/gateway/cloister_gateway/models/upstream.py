"""The client of the llm pods: the token path.

Every request gets the tenant's ``cache_salt`` here, so that no caller of this module can forget it: prefixes are
shared within a tenant only, and timing tells nobody what another tenant asked.

A request that fails before its first byte is tried on another pod; after it, the caller decides whether to go on
(`cloister_gateway.runs` continues from the text so far). One that fails a second time is given up: the pods are not at
fault, and it would take down one after the other. Whether a pod is at fault, the pod itself is asked.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import orjson
from cloister_common.errors import CloisterError, Unavailable, UpstreamFailed
from cloister_common.http import client_ssl_context
from cloister_common.internal import InternalTokens
from cloister_common.logs import get_logger
from cloister_common.pulse import PULSE
from cloister_common.pulse import REQUEST as PULSE_REQUEST
from cloister_common.supervisor import Supervisor
from cloister_common.vault import Keyring
from cloister_common.vault.cache import ShortCache

from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.connections import Answer, PodClient, PodLostError, PodUnreachedError
from cloister_gateway.models.faults import failed_again, fault_of, no_answer_in_time, no_pod, stream_fault
from cloister_gateway.models.fleet import Fleet, LookUp, addresses_of
from cloister_gateway.models.loads import Loads
from cloister_gateway.models.metrics import FIRST_TOKEN, calls, running
from cloister_gateway.models.pods import Attempts, Pod
from cloister_gateway.models.watchdog import Watchdog
from cloister_gateway.settings import LlmSettings

__all__ = ["TEXT", "ModelUpstream", "Path", "open_upstream", "payloads"]

log = get_logger(__name__)

Path = Literal["/v1/chat/completions", "/v1/completions"]
CHAT: Path = "/v1/chat/completions"
TEXT: Path = "/v1/completions"
"""How a pod is asked to go on from a text that is no chat."""

_MOST_PODS = 3
_MOST_FAULTS = 2
_CHECK_SECONDS = 2.0
_TOKENIZE_SECONDS = 30.0

_PULSE_SECONDS = 5.0
"""Silence of a pod's stream after which it shall give a sign of life; sooner where less silence is borne."""

_LARGEST_ERROR_BYTES = 64 * 1024
_BYTES_A_TOKEN = 4
"""Of a request's JSON, about: loads are compared with each other only."""

_SALT_SECONDS = 300.0
_MOST_SALTS = 10_000


class _Request(NamedTuple):
    """One request as it is sent to a pod."""

    model: str
    path: str
    raw: bytes
    affinity: str | None
    tokens: int
    """Of its prompt and its longest answer, about."""


class ModelUpstream:
    """All chat models and their pods. Make it with `open_upstream`."""

    def __init__(
        self,
        catalog: Catalog,
        pods: Fleet,
        llm: LlmSettings,
        keyring: Keyring,
        client: PodClient,
    ) -> None:
        self._catalog = catalog
        self._pods = pods
        self._llm = llm
        self._keyring = keyring
        self._client = client
        self._salts: ShortCache[str] = ShortCache(seconds=_SALT_SECONDS, most=_MOST_SALTS)

    def start(self, supervisor: Supervisor) -> None:
        """Begins to follow which pods there are and what they have to do; ends with the supervisor."""
        self._pods.start(supervisor)
        supervisor.loop("model-pod-loads", Loads(self._pods, self._client).run)

    async def cache_salt(self, tenant: str) -> str:
        """What separates the tenant's prefix cache from every other's."""
        salt = self._salts.get(tenant)
        if salt is None:
            salt = await self._keyring.name(tenant, "cache-salt")
            self._salts.put(tenant, salt)
        return salt

    async def stream_events(
        self,
        model: str,
        body: Mapping[str, Any],
        *,
        tenant: str,
        affinity: str | None = None,
        attempts: Attempts | None = None,
        path: Path = CHAT,
    ) -> AsyncGenerator[bytes, None]:
        """The events of a streamed answer as they came: blocks of whole ``data: …`` events, ``[DONE]`` included.

        Nothing is parsed, for those who only pass them on; `payloads` gives the JSON of each. The pod's error events
        are raised, not passed. Close the iterator (``contextlib.aclosing``) to stop early: that aborts the generation
        in the pod.

        Args:
            model: The public name.
            body: vLLM's request; ``model``, ``stream`` and ``cache_salt`` are set here.
            tenant: Whose request it is.
            affinity: Requests with the same key go to the same pod while its load allows it.
            attempts: Of this request, where more than one call is made for it.
            path: Where the pod answers it.

        Raises:
            RequestFailed: It failed twice, or was not answered in time; trying again is of no use.
            CloisterError: The pods are down, refuse the request, or fail in the middle (`UpstreamFailed`).
        """
        request = await self._request(model, path, {**body, "stream": True}, tenant, affinity)
        attempts = attempts or Attempts()
        pod, events, first = await self._begin(request, attempts)
        async with aclosing(events):
            try:
                yield first
                async for block in events:
                    yield block
            except (PodLostError, UpstreamFailed) as error:
                # A continuation must not meet the same fault at the same place.
                attempts.pods.add(pod)
                await self._ask(model, pod)
                calls(model, "cut").inc()
                log.warning("llm_stream_cut", model=model, error=type(error).__name__)
                raise stream_fault() from error
        calls(model, "ok").inc()

    async def complete_chat(
        self, model: str, body: Mapping[str, Any], *, tenant: str, affinity: str | None = None, path: Path = CHAT
    ) -> bytes:
        """A whole completion, as the JSON bytes vLLM answered. Cancelling the call aborts the generation.

        Raises:
            CloisterError: As `stream_events`.
        """
        request = await self._request(model, path, {**body, "stream": False}, tenant, affinity)
        return await self._call(request, seconds=self._llm.completion_seconds)

    async def tokenize(self, model: str, *, prompt: str) -> list[int]:
        """The token ids of a text, by the model's own tokenizer."""
        answer = await self._tokenize(model, {"prompt": prompt, "add_special_tokens": False})
        return [int(token) for token in answer["tokens"]]

    async def count_tokens(
        self, model: str, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> int:
        """How many tokens a chat has, with the template around it, by the model's own tokenizer."""
        body: dict[str, Any] = {"messages": messages}
        if tools:
            body["tools"] = tools
        return int((await self._tokenize(model, body))["count"])

    async def _tokenize(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        self._catalog.get(model)
        raw = orjson.dumps({"model": model, **body})
        # A pod counts much faster than it generates: this is no load.
        answer = await self._call(_Request(model, "/tokenize", raw, None, 0), seconds=_TOKENIZE_SECONDS)
        return cast("dict[str, Any]", orjson.loads(answer))

    async def is_ready(self, model: str) -> bool:
        """Whether at least one pod of ``model`` says that it is healthy."""
        try:
            await self.check(model)
        except Unavailable:
            return False
        return True

    async def check(self, model: str) -> None:
        """Raises `Unavailable` unless at least one pod of ``model`` says that it is healthy."""
        for pod in self._pods[model].all:
            if await self._is_well(pod):
                return
        raise Unavailable("no pod is ready")

    async def _is_well(self, pod: Pod) -> bool:
        try:
            async with asyncio.timeout(_CHECK_SECONDS), await self._client.get(pod, "/health") as answer:
                await answer.read(_LARGEST_ERROR_BYTES)
                return answer.status == 200
        except (PodLostError, TimeoutError):
            return False

    async def _ask(self, model: str, pod: Pod) -> bool:
        """Whether ``pod`` is well, after a request failed there; one that does not say so is left out for a while."""
        well = await self._is_well(pod)
        if not well:
            self._pods[model].failed(pod)
        return well

    async def _begin(self, request: _Request, attempts: Attempts) -> tuple[Pod, AsyncGenerator[bytes, None], bytes]:
        """A pod, its stream that has begun, and the first block. Pods that fail before it are passed over."""
        model = request.model
        tried: set[Pod] = set()
        fault: CloisterError | None = None
        while True:
            pod = self._next_pod(request, attempts, tried, fault)
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._llm.first_token_seconds) as deadline:
                    events = self._attempt(request, pod, deadline)
                    first = await anext(events)
            except (PodLostError, UpstreamFailed, Unavailable) as error:
                fault = await self._passed_over(model, pod, error, attempts) or fault
            except TimeoutError as error:
                raise await self._late(model, pod, self._llm.first_token_seconds) from error
            else:
                self._pods[model].answered(pod)
                attempts.faults = 0
                FIRST_TOKEN.labels(model).observe(time.monotonic() - started)
                return pod, events, first

    async def _request(
        self, model: str, path: Path, body: dict[str, Any], tenant: str, affinity: str | None
    ) -> _Request:
        asked = body.get("max_completion_tokens") or body.get("max_tokens")
        answer = self._catalog.get(model).answer_tokens(asked) * (body.get("n") or 1)
        raw = orjson.dumps({**body, "model": model, "cache_salt": await self.cache_salt(tenant)})
        return _Request(model, path, raw, affinity, len(raw) // _BYTES_A_TOKEN + answer)

    def _next_pod(self, request: _Request, attempts: Attempts, tried: set[Pod], fault: CloisterError | None) -> Pod:
        """The pod for the next attempt. If there is none left, raises what the last one that answered said."""
        pod = None
        if len(tried) < _MOST_PODS:
            choose = partial(self._pods[request.model].choose, request.affinity, tokens=request.tokens)
            pod = choose(tried=tried | attempts.pods) or choose(tried=tried)
        if pod is None:
            raise fault or no_pod(request.model)
        tried.add(pod)
        return pod

    async def _passed_over(self, model: str, pod: Pod, error: Exception, attempts: Attempts) -> CloisterError | None:
        """What a pod said that failed before its first byte, if it said something.

        Raises:
            RequestFailed: The request failed before, and may be what is wrong.
        """
        attempts.pods.add(pod)
        said = error if isinstance(error, CloisterError) else None
        calls(model, "lost" if said is None else said.error_code).inc()
        if said is None:
            log.warning("llm_pod_lost", model=model, error=type(error).__name__)
        if isinstance(error, (PodUnreachedError, Unavailable)):
            self._pods[model].failed(pod)
            return said
        well = await self._ask(model, pod)
        attempts.faults += 1
        if attempts.faults >= _MOST_FAULTS:
            log.error("llm_request_failed_again", model=model, pod_well=well)
            raise failed_again(model) from error
        return said

    async def _late(self, model: str, pod: Pod, seconds: float) -> CloisterError:
        calls(model, "timeout").inc()
        if await self._ask(model, pod):
            self._pods[model].late(pod)
        return no_answer_in_time(model, seconds)

    @asynccontextmanager
    async def _post(self, request: _Request, pod: Pod) -> AsyncIterator[Answer]:
        """An open, successful answer of ``pod``. Leaving the block before its end closes the connection."""
        pods = self._pods[request.model]
        pods.begin(pod, request.tokens)
        running(request.model).inc()
        try:
            async with await self._client.post(pod, request.path, request.raw) as answer:
                if answer.status != 200:
                    raise await self._refused(request.model, request.path, answer)
                yield answer
        finally:
            pods.end(pod, request.tokens)
            running(request.model).dec()

    async def _refused(self, model: str, path: str, answer: Answer) -> CloisterError:
        read = "prompt" if path == TEXT else "messages"
        fault = fault_of(model, answer.status, await answer.read(_LARGEST_ERROR_BYTES), read=read)
        if type(fault).status >= 500:
            log.error("llm_pod_failed", model=model, status=answer.status)
        return fault

    async def _attempt(self, request: _Request, pod: Pod, deadline: asyncio.Timeout) -> AsyncGenerator[bytes, None]:
        """One try on one pod: blocks of whole events. Raises `PodLostError` when the pod goes away.

        ``deadline``, of the first one, moves with each sign of life before it.
        """
        async with self._post(request, pod) as answer:
            watchdog = Watchdog(answer, max(self._llm.first_token_seconds, self._llm.token_seconds))
            left = b""
            begun = finished = False
            try:
                while chunk := await answer.piece():
                    watchdog.seen(self._llm.token_seconds)
                    # Only whole events go on: what a dying pod cut in half must not reach a client.
                    block = left + chunk if left else chunk
                    if not block.endswith(b"\n\n"):
                        end = block.rfind(b"\n\n") + 2
                        left = block[end:] if end > 1 else block
                        if end == 1:
                            continue
                        block = block[:end]
                    else:
                        left = b""
                    if PULSE in block:
                        # A sign of life is for us alone: the pod reads a long prompt, or holds a call of a tool back.
                        if not begun:
                            deadline.reschedule(asyncio.get_running_loop().time() + self._llm.first_token_seconds)
                        block = block.replace(PULSE, b"")
                        if not block:
                            continue
                    if b'data: {"error"' in block:
                        raise stream_fault()
                    begun = True
                    finished = block.endswith(b"data: [DONE]\n\n")
                    yield block
            except PodLostError:
                if not finished:
                    raise
            finally:
                watchdog.stop()
            if not finished:
                raise PodLostError("the stream ended without [DONE]")

    async def _call(self, request: _Request, *, seconds: float) -> bytes:
        model = request.model
        tried: set[Pod] = set()
        attempts = Attempts()
        fault: CloisterError | None = None
        while True:
            pod = self._next_pod(request, attempts, tried, fault)
            try:
                async with asyncio.timeout(seconds), self._post(request, pod) as answer:
                    body = await answer.read()
            except (PodLostError, UpstreamFailed, Unavailable) as error:
                fault = await self._passed_over(model, pod, error, attempts) or fault
                continue
            except TimeoutError as error:
                raise await self._late(model, pod, seconds) from error
            self._pods[model].answered(pod)
            calls(model, "ok").inc()
            return body


def payloads(block: bytes) -> list[bytes]:
    """The JSON of each event in a block of `ModelUpstream.stream_events`, without ``[DONE]``."""
    found = [event.removeprefix(b"data: ") for event in block.split(b"\n\n")]
    return [payload for payload in found if payload and payload != b"[DONE]"]


@asynccontextmanager
async def open_upstream(
    catalog: Catalog,
    llm: LlmSettings,
    tokens: InternalTokens,
    keyring: Keyring,
    *,
    look_up: LookUp = addresses_of,
) -> AsyncIterator[ModelUpstream]:
    """Opens the client, which knows the pods that there are now; at the end every stream still open is cut off."""
    pods = Fleet(catalog, llm, look_up)
    await pods.look_up()
    # Made even where no address is https: the catalog may get one.
    tls = client_ssl_context(llm.tls)
    headers = {
        **tokens.headers(),
        "content-type": "application/json",
        "accept-encoding": "identity",
        PULSE_REQUEST: f"{min(_PULSE_SECONDS, llm.token_seconds / 4):g}",
    }
    client = PodClient(headers, tls, connect_seconds=llm.connect_seconds)
    try:
        yield ModelUpstream(catalog, pods, llm, keyring, client)
    finally:
        await client.close()
