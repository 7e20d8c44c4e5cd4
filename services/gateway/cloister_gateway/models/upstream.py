"""The client of the llm pods: the token path."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path as FilePath
from typing import Any, TypeVar, cast

import orjson
from cloister_common.errors import Unavailable, UpstreamFailed
from cloister_common.http import client_ssl_context
from cloister_common.internal import InternalTokens
from cloister_common.logs import get_logger
from cloister_common.pulse import REQUEST as PULSE_REQUEST
from cloister_common.supervisor import Supervisor
from cloister_common.vault import Keyring
from redis.asyncio import Redis

from cloister_gateway.model_settings import LlmSettings
from cloister_gateway.models.adapters.loading import AdapterLoader
from cloister_gateway.models.calling import Calling
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.cluster import open_cluster
from cloister_gateway.models.connections import Pace, PodClient, PodLostError
from cloister_gateway.models.faults import stream_fault
from cloister_gateway.models.fleet import Fleet, LookUp, addresses_of
from cloister_gateway.models.flight import Resting
from cloister_gateway.models.flights import Flights
from cloister_gateway.models.health import Health
from cloister_gateway.models.loading import Loading
from cloister_gateway.models.loads import Loads
from cloister_gateway.models.metrics import calls
from cloister_gateway.models.pods import Attempts, Pod
from cloister_gateway.models.requests import CHAT, TEXT, Path, PodRequest, Requests
from cloister_gateway.models.visit import Visit
from cloister_gateway.models.waking.records import Told
from cloister_gateway.models.waking.service import Waker
from cloister_gateway.models.waking.store import WakingStore
from cloister_gateway.models.work import WorkClass
from cloister_gateway.settings import AdmissionSettings

__all__ = ["TEXT", "ModelUpstream", "Path", "open_upstream", "payloads"]

log = get_logger(__name__)
_T = TypeVar("_T")

_TOKENIZE_SECONDS = 30.0

_DONE = b"data: [DONE]\n\n"
_PULSE_SECONDS = 5.0
"""Silence of a pod's stream after which it shall give a sign of life; sooner where less silence is borne."""


class ModelUpstream:
    """All chat models and their pods. Make it with `open_upstream`."""

    def __init__(
        self,
        catalog: Catalog,
        pods: Fleet,
        llm: LlmSettings,
        keyring: Keyring,
        client: PodClient,
        flights: Flights,
        waker: Waker | None = None,
    ) -> None:
        self.fleet = pods
        self._flights = flights
        self._waker = waker
        self.adapters = AdapterLoader(client)
        self._catalog = catalog
        self._llm = llm
        self._client = client
        self._requests = Requests(catalog, keyring)
        self._health = Health(pods, client)
        self._calling = Calling(pods, llm, client, self.adapters, self._health)
        self._loading = Loading(self._health.of_all, seconds=llm.loading_seconds, most=llm.loading_waits)

    def start(self, supervisor: Supervisor) -> None:
        """Begins to follow which pods there are and what they have to do; ends with the supervisor."""
        self.fleet.start(supervisor)
        supervisor.loop("model-pod-loads", Loads(self._catalog, self.fleet, self._flights, self._client).run)
        if self._waker is not None:
            self._waker.start(supervisor)

    async def cache_salt(self, tenant: str) -> str:
        """What separates the tenant's prefix cache from every other's."""
        return await self._requests.cache_salt(tenant)

    async def stream_events(
        self,
        model: str,
        body: Mapping[str, Any],
        *,
        tenant: str,
        affinity: str | None = None,
        attempts: Attempts | None = None,
        path: Path = CHAT,
        work: WorkClass = WorkClass.INTERACTIVE,
        pace: Pace | None = None,
        waiting: Told | None = None,
        accepted: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """The events of a streamed answer as they came: blocks of whole ``data: …`` events, ``[DONE]`` included.

        Nothing is parsed, for those who only pass them on; `payloads` gives the JSON of each. The pod's error events
        are raised, not passed. Close the iterator (``contextlib.aclosing``) to stop early: that aborts the generation
        in the pod.

        Args:
            model: The public name.
            body: vLLM's request; ``model``, ``stream``, ``cache_salt`` and ``priority`` are set here.
            tenant: Whose request it is.
            affinity: Requests with the same key go to the same pod while its load allows it.
            attempts: Of this request, where more than one call is made for it.
            path: Where the pod answers it.
            work: How soon it is wanted.
            pace: How often the caller wants to hear of what came after the first block; as soon as it is there if None.
            waiting: Told where it stands while it waits for the model, of which no pod is ready or all have as much as
                they hold; and that it goes on.
            accepted: Whether it was promised to its caller: then it waits for its turn for as long as that takes.

        Raises:
            Overloaded: There is too much before it, and nothing was promised.
            RequestFailed: It failed twice, or was not answered in time; trying again is of no use.
            CloisterError: The pods are down, refuse the request, or fail in the middle (`UpstreamFailed`).
        """
        attempts = attempts or Attempts()
        attempts.accepted |= accepted
        request = await self._requests.make(model, path, {**body, "stream": True}, tenant, affinity, attempts, work)

        async with Visit(self._flights.of(model), tenant, work, attempts, waiting, accepted=accepted) as visit:

            async def begin() -> tuple[Pod, AsyncGenerator[bytes, None], bytes]:
                return await self._calling.begin(await visit.come(request), attempts, pace)

            pod, events, first = await self._once_ready(model, attempts, begin, waiting, visit)
            async with aclosing(events):
                try:
                    last = first
                    yield first
                    async for block in events:
                        if block != _DONE:
                            last = block
                        yield block
                except (PodLostError, UpstreamFailed) as error:
                    # A continuation must not meet the same fault at the same place.
                    attempts.pods.add(pod)
                    await self._health.after_failure(model, pod)
                    calls(model, "cut").inc()
                    log.warning("llm_stream_cut", model=model, error=type(error).__name__)
                    raise stream_fault() from error
            visit.learn(request, last)
        calls(model, "ok").inc()

    async def complete_chat(
        self,
        model: str,
        body: Mapping[str, Any],
        *,
        tenant: str,
        affinity: str | None = None,
        path: Path = CHAT,
        attempts: Attempts | None = None,
        work: WorkClass = WorkClass.INTERACTIVE,
        accepted: bool = False,
    ) -> bytes:
        """A whole completion, as the JSON bytes vLLM answered. Cancelling the call aborts the generation.

        Raises:
            CloisterError: As `stream_events`.
        """
        attempts = attempts or Attempts()
        attempts.accepted |= accepted
        request = await self._requests.make(model, path, {**body, "stream": False}, tenant, affinity, attempts, work)
        seconds = self._llm.completion_seconds
        async with Visit(self._flights.of(model), tenant, work, attempts, accepted=accepted) as visit:

            async def call() -> bytes:
                return await self._calling.call(await visit.come(request), attempts, seconds=seconds)

            answer = await self._once_ready(model, attempts, call, visit=visit)
            visit.learn(request, answer)
            return answer

    def check_queue(self, model: str, work: WorkClass, *, tenant: str, size: int, most_output_tokens: int) -> None:
        """Raises `Overloaded` where a request would be refused, of which so much is about to be accepted.

        Args:
            model: The public name.
            work: Its class.
            tenant: Whose it is.
            size: Bytes of its prompt, about.
            most_output_tokens: Its longest answer.
        """
        flight = self._flights.of(model)
        flight.check(tenant, work, flight.estimates.tokens(size, most_output_tokens))

    async def check_room(self, model: str) -> None:
        """Raises `TooManyRequests` where ``model`` rests and no further request is held."""
        if self._waker is not None:
            await self._waker.check_room(model)

    async def until_ready(self, model: str, attempts: Attempts, waiting: Told | None) -> bool:
        """Waits until a pod of ``model`` is ready, as calls do; says whether it had to.

        Raises:
            TooManyRequests: Too many wait for it.
            Unavailable: None was in time.
        """
        if self._waker is not None and await self._waker.is_awake(model):
            return False
        return await self._wait(model, attempts, waiting)

    async def _wait(self, model: str, attempts: Attempts, waiting: Told | None) -> bool:
        if self._waker is not None and await self._waker.again(model, attempts, waiting):
            return True
        return await self._loading.wait(model, attempts, waiting)

    async def _once_ready(
        self,
        model: str,
        attempts: Attempts,
        call: Callable[[], Awaitable[_T]],
        waiting: Told | None = None,
        visit: Visit | None = None,
    ) -> _T:
        """What ``call`` gives, once there is a pod for it; meanwhile it takes nothing of what the pods hold. Raises as
        it and `until_ready` do."""
        if self._waker is not None:
            await self._waker.admit(model, attempts, waiting)
        while True:
            try:
                found = await call()
            except Unavailable:
                if visit is not None:
                    visit.give_back()
                if not await self._wait(model, attempts, waiting):
                    raise
            else:
                attempts.held_until = 0.0  # Should it be held again, then since another pod has gone.
                return found

    async def tokenize(
        self, model: str, *, prompt: str, attempts: Attempts | None = None, waiting: Told | None = None
    ) -> list[int]:
        """The token ids of a text, by the model's own tokenizer.

        With ``attempts``, those of a request, it waits for the model as the request does.
        """
        body = {"prompt": prompt, "add_special_tokens": False}
        answer = await self._tokenize(model, body, attempts, waiting)
        return [int(token) for token in answer["tokens"]]

    async def count_tokens(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        attempts: Attempts | None = None,
    ) -> int:
        """How many tokens a chat has, with the template around it, by the model's own tokenizer. As `tokenize`."""
        body: dict[str, Any] = {"messages": messages}
        if tools:
            body["tools"] = tools
        return int((await self._tokenize(model, body, attempts))["count"])

    async def _tokenize(
        self, model: str, body: dict[str, Any], attempts: Attempts | None, waiting: Told | None = None
    ) -> dict[str, Any]:
        # An adapter has its base's tokenizer, which is on every pod.
        raw = orjson.dumps({"model": self._catalog.get(model).base or model, **body})
        # A pod counts much faster than it generates: this is no load.
        request = PodRequest(model, "/tokenize", raw, None, 0)
        call = partial(self._calling.call, request, attempts or Attempts(), seconds=_TOKENIZE_SECONDS)
        answer = await (call() if attempts is None else self._once_ready(model, attempts, call, waiting))
        return cast("dict[str, Any]", orjson.loads(answer))

    async def is_ready(self, model: str) -> bool:
        """Whether at least one pod of ``model`` says that it is healthy."""
        try:
            await self.check(model)
        except Unavailable:
            return False
        return True

    async def check(self, model: str) -> None:
        """Raises `Unavailable` unless at least one pod of ``model`` says that it is healthy.

        Of an adapter: one that has it.
        """
        versions = self._catalog.get(model).versions
        for pod in self.fleet[model].all:
            if versions and versions[0].served not in pod.adapters:
                continue
            if await self._health.is_well(pod):
                return
        raise Unavailable("no pod is ready")


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
    admission: AdmissionSettings | None = None,
    resting: Resting = nullcontext,
    look_up: LookUp = addresses_of,
    kubeconfig_file: FilePath | None = None,
    redis: Redis | None = None,
) -> AsyncIterator[ModelUpstream]:
    """Opens the client, which knows the pods that there are now; at the end every stream still open is cut off.

    Without ``redis`` no model rests.
    """
    flights = Flights(catalog, admission or AdmissionSettings(), resting)
    pods = Fleet(catalog, llm, look_up, kubeconfig_file=kubeconfig_file)
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
    waker = None
    if redis is not None:
        store = WakingStore(redis, keyring, holder=secrets.token_hex(8))
        waker = Waker(catalog, pods, client, store, partial(open_cluster, kubeconfig_file))
    try:
        yield ModelUpstream(catalog, pods, llm, keyring, client, flights, waker)
    finally:
        await client.close()
