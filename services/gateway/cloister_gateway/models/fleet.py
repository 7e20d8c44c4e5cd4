"""The pods of every model, as the catalog and the cluster's DNS have them now.

A model has the addresses of its pods in its entry, or the name of a service that stands for all of them, as a headless
Service does: that name is looked up every few seconds, and each address it has is one pod. So more or fewer replicas
change nothing that a gateway was told.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.pods import Pods
from cloister_gateway.settings import LlmSettings

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
    """

    def __init__(self, catalog: Catalog, llm: LlmSettings, look_up: LookUp = addresses_of) -> None:
        self._catalog = catalog
        self._llm = llm
        self._look_up = look_up
        self._pods: dict[str, Pods] = {}
        self._unknown: set[str] = set()
        self._changed = asyncio.Event()
        self._supervisor: Supervisor | None = None
        self._follow()
        catalog.subscribe(self._follow)

    def __getitem__(self, model: str) -> Pods:
        """The pods of a model that is in the catalog, or was: calls that are under way end on their pods."""
        return self._pods[model]

    def pods(self) -> list[Pods]:
        """Those of every model that is in the catalog."""
        return [self._pods[model.name] for model in self._catalog]

    def start(self, supervisor: Supervisor) -> None:
        """Looks names up again and again from now on, once there are any; ends with the supervisor."""
        self._supervisor = supervisor
        self._follow()

    async def look_up(self) -> None:
        """Looks every name up once."""
        await asyncio.gather(*(self._look_up_one(model) for model in self._catalog))

    def _follow(self) -> None:
        for model in self._catalog:
            pods = self._pods.get(model.name)
            if pods is None:
                pods = self._pods[model.name] = Pods((), outage_seconds=self._llm.outage_seconds)
            if model.service is None:
                pods.replace(model.urls)
        self._changed.set()
        if self._supervisor is not None and any(model.service is not None for model in self._catalog):
            self._supervisor.loop("model-pods", self._run)
            self._supervisor = None

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
        urls = [f"{service.scheme}://{_in_url(address)}{port}" for address in addresses]
        if self._pods[model.name].replace(urls, server_name=host):
            log.info("model_pods_changed", model=model.name, pods=len(urls))


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
