"""One request at the pods: which of them is tried, what a failure there means, and the blocks of its stream.

A request that fails before its first byte is tried on another pod; after it, the caller decides whether to go on
(`cloister_gateway.runs` continues from the text so far). One that fails a second time is given up: the pods are not at
fault, and it would take down one after the other. Whether a pod is at fault, the pod itself is asked.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from cloister_common.errors import CloisterError, Unavailable, UpstreamFailed
from cloister_common.logs import get_logger
from cloister_common.pulse import PULSE

from cloister_gateway.model_settings import LlmSettings
from cloister_gateway.models.adapters.loading import AdapterLoader, AdapterUnloaded, lacking_of
from cloister_gateway.models.connections import Answer, Pace, PodClient, PodLostError, PodUnreachedError
from cloister_gateway.models.faults import failed_again, fault_of, no_answer_in_time, no_pod, stream_fault
from cloister_gateway.models.fleet import Fleet
from cloister_gateway.models.health import Health
from cloister_gateway.models.metrics import FIRST_TOKEN, calls, running
from cloister_gateway.models.pods import Attempts, Pod
from cloister_gateway.models.requests import TEXT, PodRequest
from cloister_gateway.models.watchdog import Watchdog

__all__ = ["Calling"]

log = get_logger(__name__)

_MOST_PODS = 3
_MOST_FAULTS = 2
_LARGEST_ERROR_BYTES = 64 * 1024


class Calling:
    """Sends requests to the pods of ``fleet``.

    Args:
        fleet: The pods.
        llm: How long is waited for them.
        client: Speaks to them.
        adapters: Loads what a request needs on the pod that gets it.
        health: Says whether the pod was at fault.
    """

    def __init__(
        self, fleet: Fleet, llm: LlmSettings, client: PodClient, adapters: AdapterLoader, health: Health
    ) -> None:
        self._fleet = fleet
        self._llm = llm
        self._client = client
        self._adapters = adapters
        self._health = health

    async def begin(
        self, request: PodRequest, attempts: Attempts, pace: Pace | None
    ) -> tuple[Pod, AsyncGenerator[bytes, None], bytes]:
        """A pod, its stream that has begun, and the first block. Pods that fail before it are passed over."""
        model = request.model
        tried: set[Pod] = set()
        fault: CloisterError | None = None
        while True:
            pod = self._next_pod(request, attempts, tried, fault)
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._llm.first_token_seconds) as deadline:
                    events = self._attempt(request, pod, deadline, pace)
                    first = await anext(events)
            except (PodLostError, UpstreamFailed, Unavailable) as error:
                fault = await self._passed_over(model, pod, error, attempts) or fault
            except TimeoutError as error:
                raise await self._late(model, pod, self._llm.first_token_seconds) from error
            else:
                self._fleet[model].answered(pod)
                attempts.faults = 0
                FIRST_TOKEN.labels(model).observe(time.monotonic() - started)
                return pod, events, first

    async def call(self, request: PodRequest, attempts: Attempts, *, seconds: float) -> bytes:
        """A pod's whole answer, within ``seconds``. Pods that fail are passed over."""
        model = request.model
        tried: set[Pod] = set()
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
            self._fleet[model].answered(pod)
            calls(model, "ok").inc()
            return body

    def _next_pod(self, request: PodRequest, attempts: Attempts, tried: set[Pod], fault: CloisterError | None) -> Pod:
        """The pod for the next attempt. If there is none left, raises what the last one that answered said."""
        pod = None
        if len(tried) < _MOST_PODS and not attempts.over:
            pods = self._fleet[request.model]
            choose = partial(pods.choose, request.affinity, tokens=request.tokens)
            if request.version is not None:
                # A pod that has to load the adapter first is better than none.
                lacking = lacking_of(pods.all, request.version)
                pod = choose(tried=tried | attempts.pods | lacking) or choose(tried=tried | lacking)
            pod = pod or choose(tried=tried | attempts.pods) or choose(tried=tried)
        if pod is None:
            raise fault or no_pod(request.model)
        tried.add(pod)
        attempts.served.asked_at = time.monotonic()
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
        if isinstance(error, AdapterUnloaded):
            return said  # It may be well, and serves others.
        if pod.chooses:
            attempts.over = True
            return said
        if isinstance(error, (PodUnreachedError, Unavailable)):
            self._fleet[model].failed(pod)
            return said
        well = await self._health.after_failure(model, pod)
        attempts.faults += 1
        if attempts.faults >= _MOST_FAULTS:
            log.error("llm_request_failed_again", model=model, pod_well=well)
            raise failed_again(model) from error
        return said

    async def _late(self, model: str, pod: Pod, seconds: float) -> CloisterError:
        calls(model, "timeout").inc()
        if await self._health.after_failure(model, pod):
            self._fleet[model].late(pod)
        return no_answer_in_time(model, seconds)

    @asynccontextmanager
    async def _post(self, request: PodRequest, pod: Pod) -> AsyncIterator[Answer]:
        """An open, successful answer of ``pod``. Leaving the block before its end closes the connection."""
        pods = self._fleet[request.model]
        pods.begin(pod, request.tokens)
        running(request.model).inc()
        try:
            if request.version is None:
                asking = self._client.post(pod, request.path, request.raw, request.headers)
            else:
                asking = self._adapters.post(pod, request.path, request.raw, request.headers, request.version, pods.all)
            async with await asking as answer:
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

    async def _attempt(
        self, request: PodRequest, pod: Pod, deadline: asyncio.Timeout, pace: Pace | None
    ) -> AsyncGenerator[bytes, None]:
        """One try on one pod: blocks of whole events. Raises `PodLostError` when the pod goes away.

        ``deadline``, of the first one, moves with each sign of life before it.
        """
        async with self._post(request, pod) as answer:
            watchdog = Watchdog(answer, max(self._llm.first_token_seconds, self._llm.token_seconds))
            left = b""
            begun = finished = False
            try:
                while chunk := await answer.piece(pace if begun else None):
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
