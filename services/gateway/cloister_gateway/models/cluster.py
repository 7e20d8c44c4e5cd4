"""The Kubernetes API, as far as EndpointSlices and the scale of workloads are concerned.

The client of the ``kubernetes`` package gives address, account and TLS. Its models are not used, since clusters before
1.21 have EndpointSlices in ``v1beta1`` alone, which it does not know; nor is its ``Watch``, which goes on from an old
place by itself. The package takes a second and 45 MB to import: only who has such models does.
"""

import asyncio
import importlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from cloister_gateway.models.waking.records import Workload

__all__ = ["Cluster", "ClusterError", "Event", "ExpiredError", "Listed", "Scale", "open_cluster"]

_GROUP = "discovery.k8s.io"
_VERSIONS = ("v1", "v1beta1")
_CALL_SECONDS = 10.0
_SCALE_SECONDS = 5.0
_WATCH_SECONDS = 60
"""How long the server lets a watch go on: nothing is missed between two, and a connection that has died in silence is
found out by this."""
_SLACK_SECONDS = 10.0
_PAGE = 500
_LARGEST_EVENT_BYTES = 4 * 1024 * 1024
"""A slice has a thousand endpoints at most, of about 700 bytes each."""


class ClusterError(Exception):
    """The API is away, refuses, or says what nobody can read."""


class ExpiredError(ClusterError):
    """What the API is asked to go on from is too old (410): everything must be listed anew."""


class Listed(NamedTuple):
    """All objects by their names, as they were at ``version``."""

    objects: dict[str, dict[str, Any]]
    version: str


class Scale(NamedTuple):
    """How many pods a workload shall have, and how many there are, ready or not; as it was at ``version``."""

    wanted: int
    there: int
    version: str


class Event(NamedTuple):
    """What became of one object, or how far the watch has come (``BOOKMARK``)."""

    kind: str
    object: dict[str, Any]

    @property
    def version(self) -> str:
        """Where a watch that is broken off goes on."""
        return _metadata(self.object, "resourceVersion")

    @property
    def name(self) -> str:
        """The object's."""
        return _metadata(self.object, "name")


class Cluster:
    """Lists and watches EndpointSlices; reads and changes how many pods a workload has. Make it with `open_cluster`.

    Args:
        custom: The package's calls for objects of any kind.
        discovery: Its calls that say which versions there are.
        faults: What either raises.
    """

    def __init__(self, custom: Any, discovery: Any, faults: tuple[type[Exception], ...]) -> None:
        self._custom = custom
        self._discovery = discovery
        self._faults: tuple[type[Exception], ...] = (*faults, OSError)  # a `TimeoutError` is one too
        self._version: str | None = None

    async def slices(self, namespace: str, selector: str) -> Listed:
        """All EndpointSlices with the labels of ``selector``.

        Raises:
            ClusterError: The API does not say (`ExpiredError`: too much has changed between two pages).
        """
        found: dict[str, dict[str, Any]] = {}
        more = ""
        while True:
            asked = {"limit": _PAGE} | ({"_continue": more} if more else {})
            async with self._asked(_CALL_SECONDS, namespace, selector, **asked) as answer:
                page = _read(await answer.read())
            if not isinstance(page.get("items"), list):
                raise ClusterError("the API answered with something else than a list")
            found |= {_metadata(one, "name"): one for one in page["items"]}
            version, more = _metadata(page, "resourceVersion"), page["metadata"].get("continue") or ""
            if not more:
                return Listed(found, version)

    async def changes(self, namespace: str, selector: str, version: str) -> AsyncGenerator[Event, None]:
        """What becomes of them after ``version``, bookmarks among it. It ends every minute: go on from the last.

        Raises:
            ExpiredError: ``version`` is too old.
            ClusterError: As `slices`.
        """
        asked = {
            "watch": True,
            "allow_watch_bookmarks": True,
            "resource_version": version,
            "timeout_seconds": _WATCH_SECONDS,
        }
        async with self._asked(_WATCH_SECONDS + _SLACK_SECONDS, namespace, selector, **asked) as answer:
            left = b""
            async for piece in answer.content.iter_any():
                *lines, left = (left + piece).split(b"\n")
                if len(left) > _LARGEST_EVENT_BYTES:
                    raise ClusterError("the API sent an event without an end")
                for line in lines:
                    if line:
                        yield self._event(_read(line))

    async def scale(self, workload: Workload) -> Scale:
        """How many pods ``workload`` has.

        Raises:
            ClusterError: The API does not say.
        """
        return await self._scaled(self._custom.get_namespaced_custom_object_scale_without_preload_content, workload)

    async def rescale(self, workload: Workload, replicas: int, version: str) -> Scale:
        """Has ``workload`` have so many pods, unless somebody has changed it since ``version``.

        Raises:
            ClusterError: Somebody has, or the API does not do it.
        """
        return await self._scaled(
            self._custom.patch_namespaced_custom_object_scale_without_preload_content,
            workload,
            body={"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}},
            _content_type="application/merge-patch+json",
        )

    async def _scaled(self, ask: Any, workload: Workload, **more: Any) -> Scale:
        try:
            async with asyncio.timeout(_SCALE_SECONDS):
                answer = await ask("apps", "v1", workload.namespace, workload.plural, workload.name, **more)
                try:
                    if answer.status != 200:
                        where = f"{workload.plural}/{workload.name} in {workload.namespace}"
                        raise ClusterError(f"the API answered {answer.status} about the scale of {where}")
                    said = _read(await answer.read())
                finally:
                    answer.close()
        except self._faults as error:
            raise ClusterError(f"the API cannot be reached: {type(error).__name__}") from error
        # A count of 0 may be left out.
        wanted, there = (said.get(part, {}).get("replicas") or 0 for part in ("spec", "status"))
        return Scale(wanted, there, _metadata(said, "resourceVersion"))

    @asynccontextmanager
    async def _asked(self, seconds: float, namespace: str, selector: str, **asked: Any) -> AsyncIterator[Any]:
        """The open answer to a question about EndpointSlices, within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                version = self._version or await self._ask_version()
                answer = await self._custom.list_namespaced_custom_object_without_preload_content(
                    _GROUP, version, namespace, "endpointslices", label_selector=selector, **asked
                )
                try:
                    if answer.status != 200:
                        raise self._fault(answer.status)
                    yield answer
                finally:
                    answer.close()
        except self._faults as error:
            raise ClusterError(f"the API cannot be reached: {type(error).__name__}") from error

    async def _ask_version(self) -> str:
        """The version of EndpointSlices that is asked for from now on: the newest that this server has."""
        answer = await self._discovery.get_api_group_without_preload_content()
        try:
            if answer.status != 200:
                raise self._fault(answer.status)
            group = _read(await answer.read())
        finally:
            answer.close()
        served = {version.get("version") for version in group.get("versions") or []}
        found = next((version for version in _VERSIONS if version in served), None)
        if found is None:
            raise ClusterError(f"the API has EndpointSlices in none of the versions {', '.join(_VERSIONS)}")
        self._version = found
        return found

    def _event(self, told: dict[str, Any]) -> Event:
        kind, about = told.get("type"), told.get("object")
        if kind == "ERROR" and isinstance(about, dict):
            raise self._fault(about.get("code"))
        if kind not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"} or not isinstance(about, dict):
            raise ClusterError("the API sent something else than an event")
        return Event(kind, about)

    def _fault(self, status: Any) -> ClusterError:
        if status == 410:
            return ExpiredError("what the API was asked to go on from is too old")
        if status == 404:
            self._version = None  # The cluster may have been upgraded to where there is only another one.
        return ClusterError(f"the API answered {status}")


def _metadata(told: Any, field: str) -> str:
    try:
        return str(told["metadata"][field])
    except (KeyError, TypeError) as error:
        raise ClusterError(f"the API told of something without a {field}") from error


def _read(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ClusterError("the API sent what is no JSON") from error
    if not isinstance(found, dict):
        raise ClusterError("the API sent no object")
    return found


@asynccontextmanager
async def open_cluster(kubeconfig_file: Path | None) -> AsyncIterator[Cluster]:
    """The API by a kubeconfig, or as a cluster tells each of its pods.

    Raises:
        ClusterError: The kubeconfig, or the pod's account, is not there or cannot be read.
    """
    client, config, errors = [
        await asyncio.to_thread(importlib.import_module, name)
        for name in ("kubernetes.aio.client", "kubernetes.aio.config", "kubernetes.aio.client.exceptions")
    ]
    aiohttp = importlib.import_module("aiohttp")  # what the package speaks HTTP with
    told = client.Configuration()
    # Else the environment could send it through a proxy.
    told.client_session_kwargs = {"trust_env": False}
    try:
        if kubeconfig_file is None:
            config.load_incluster_config(told)
        else:
            await config.load_kube_config(str(kubeconfig_file), client_configuration=told, persist_config=False)
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"where the API is cannot be told: {error}") from error
    async with client.ApiClient(told) as api:
        yield Cluster(
            client.CustomObjectsApi(api), client.DiscoveryApi(api), (aiohttp.ClientError, errors.ApiException)
        )
