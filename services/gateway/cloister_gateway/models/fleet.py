"""The pods of every model, as the catalog, the cluster's DNS and the Kubernetes API have them now.

A model has the addresses of its pods in its entry; or the name of a service that stands for all of them, as a headless
Service does: that name is looked up every few seconds, and each address it has is one pod; or the labels of
EndpointSlices, which are watched. So more or fewer replicas change nothing that a gateway was told. Or it has the
address of somebody who chooses among its pods: that stands for all of them.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

from cloister_gateway.model_settings import LlmSettings
from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.cluster import open_cluster
from cloister_gateway.models.endpoints import Endpoints, Place, place_of
from cloister_gateway.models.pods import Pod, Pods
from cloister_gateway.models.slices import in_url, pod_urls

__all__ = ["Fleet", "LookUp", "addresses_of"]

log = get_logger(__name__)

_LOOK_UP_SECONDS = 3.0

LookUp = Callable[[str], Awaitable[Sequence[str]]]
"""Gives the addresses of a host name. Raises `OSError` where it has none, or nobody can say."""


async def addresses_of(host: str) -> list[str]:
    """The addresses of ``host`` by the system's resolver: of one family, since pods of two have one in each.

    Raises:
        OSError: It has none, or nobody can say.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    family = socket.AF_INET if any(entry[0] == socket.AF_INET for entry in found) else socket.AF_INET6
    return sorted({str(entry[4][0]) for entry in found if entry[0] == family})


class Fleet:
    """The pods by their model's name, kept current from `start` on.

    Args:
        catalog: The models.
        llm: How long pods that failed are left out, how often names are looked up.
        look_up: How.
        kubeconfig_file: How the Kubernetes API is reached, where not as a pod reaches it.
    """

    def __init__(
        self,
        catalog: Catalog,
        llm: LlmSettings,
        look_up: LookUp = addresses_of,
        *,
        kubeconfig_file: Path | None = None,
    ) -> None:
        self._catalog = catalog
        self._llm = llm
        self._look_up = look_up
        self._pods: dict[str, Pods] = {}
        self._unknown: set[str] = set()
        self._changed = asyncio.Event()
        self._slices: dict[Place, list[dict[str, Any]]] = {}
        self._endpoints = Endpoints(catalog, partial(open_cluster, kubeconfig_file), self._found)
        self._loops = {"model-pods": self._run, "model-endpoints": self._endpoints.run}
        self._supervisor: Supervisor | None = None
        self._follow()
        catalog.subscribe(self._follow)

    def __getitem__(self, model: str) -> Pods:
        """The pods of a model that is in the catalog, or was: calls that are under way end on their pods."""
        return self._pods[model]

    def __contains__(self, model: str) -> bool:
        return model in self._pods

    def pods(self) -> list[Pods]:
        """Those of every model that is in the catalog."""
        return [self._pods[model.name] for model in self._catalog.bases()]

    def coming(self, model: str) -> list[Pod]:
        """Pods of a model that have an address and are not ready yet, as far as anybody tells of them."""
        known = self._catalog.find(model)
        if known is None or known.kubernetes is None:
            return []
        slices = self._slices.get(place_of(known.kubernetes), [])
        urls = pod_urls(slices, known.kubernetes, ready=False)
        return [Pod(url, known.kubernetes.server_name) for url in urls]

    def start(self, supervisor: Supervisor) -> None:
        """Looks names up again and again from now on, and watches EndpointSlices, once there are any; ends with the
        supervisor."""
        self._supervisor = supervisor
        self._follow()

    async def look_up(self) -> None:
        """Looks every name up once."""
        await asyncio.gather(*(self._look_up_one(model) for model in self._catalog.bases()))

    def _follow(self) -> None:
        for model in self._catalog:
            if model.base is not None:
                self._pods[model.name] = self._pods[model.base]  # (An adapter comes after its base.)
                continue
            pods = self._pods.get(model.name)
            if pods is None:
                pods = self._pods[model.name] = Pods((), outage_seconds=self._llm.outage_seconds)
            if model.kubernetes is not None:
                self._take_slices(model)
            elif model.pool is not None:
                pods.replace([model.pool.url], chooses=True)
            elif model.service is None:
                pods.replace(model.urls)
        self._changed.set()
        places = self._endpoints.places
        self._slices = {place: slices for place, slices in self._slices.items() if place in places}
        wanted = {
            "model-pods": any(model.service is not None for model in self._catalog),
            "model-endpoints": bool(places),
        }
        if self._supervisor is not None:
            for name in [name for name in self._loops if wanted[name]]:
                self._supervisor.loop(name, self._loops.pop(name))

    def _found(self, place: Place, slices: list[dict[str, Any]]) -> None:
        """Takes the EndpointSlices of ``place`` as they are now."""
        self._slices[place] = slices
        for model in self._catalog.bases():
            if model.kubernetes is not None and place_of(model.kubernetes) == place:
                self._take_slices(model)

    def _take_slices(self, model: ChatModel) -> None:
        assert model.kubernetes is not None
        slices = self._slices.get(place_of(model.kubernetes))
        if slices is None:
            return  # Nobody has said yet.
        urls = pod_urls(slices, model.kubernetes)
        if self._pods[model.name].replace(urls, server_name=model.kubernetes.server_name):
            log.info("model_pods_changed", model=model.name, pods=len(urls))

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            await self.look_up()
            try:
                async with asyncio.timeout(self._llm.look_up_seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _look_up_one(self, model: ChatModel) -> None:
        if model.service is None:
            return
        service = urlsplit(model.service)
        host = service.hostname or ""
        try:
            async with asyncio.timeout(_LOOK_UP_SECONDS):
                addresses = await self._look_up(host)
        except OSError as error:  # a `TimeoutError` is one too
            # Nothing changes: the resolver may be away, and a model whose pods are all unready for a moment is still
            # worth a try. Pods that are really gone fail at once.
            if model.name not in self._unknown:
                self._unknown.add(model.name)
                log.warning("model_pods_unknown", model=model.name, error=type(error).__name__)
            return
        self._unknown.discard(model.name)
        if self._catalog.find(model.name) != model:
            return  # It changed meanwhile; the next round is about the new entry.
        port = "" if service.port is None else f":{service.port}"
        urls = [f"{service.scheme}://{in_url(address)}{port}" for address in addresses]
        if self._pods[model.name].replace(urls, server_name=host):
            log.info("model_pods_changed", model=model.name, pods=len(urls))
