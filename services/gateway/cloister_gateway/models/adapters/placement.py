"""Keeps the pods' adapters in line with the records: what lacks is loaded, what is unwanted goes.

Every gateway does it, and none needs to know of the others: loading twice changes nothing, and nothing is unloaded
that a record names, by a look at the store at that moment. A record names a version before any pod is asked to load it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress

from cloister_common.errors import InvalidRequest, Unavailable
from cloister_common.logs import get_logger

from cloister_gateway.models.adapters.loading import AdapterLoader, AdapterUnloaded
from cloister_gateway.models.adapters.metrics import PODS, short
from cloister_gateway.models.adapters.records import AdapterRecord, Version
from cloister_gateway.models.adapters.store import AdapterStore
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.connections import PodLostError
from cloister_gateway.models.fleet import Fleet
from cloister_gateway.models.pods import Pod
from cloister_gateway.storage.client import REDIS_AWAY

__all__ = ["Placement"]

log = get_logger(__name__)

_EVERY_SECONDS = 2.0
"""So long a pod that began anew is without its adapters, once it listens; it is no candidate for their requests."""
_GRACE_SECONDS = 5.0
"""What is unwanted goes after so long: another gateway may not have heard of it yet, and would load it again."""
_REFUSED_SECONDS = 30.0
"""A pod that refused a version is asked again after so long: somebody may have mended its volume."""


class Placement:
    """The pods of all models that adapters are for.

    Args:
        catalog: The models.
        fleet: Their pods.
        loader: How these are asked.
        store: What is wanted, at this moment.
    """

    def __init__(self, catalog: Catalog, fleet: Fleet, loader: AdapterLoader, store: AdapterStore) -> None:
        self._catalog = catalog
        self._fleet = fleet
        self._loader = loader
        self._store = store
        self._records: Sequence[AdapterRecord] = ()
        self._changed = asyncio.Event()
        self._refused: dict[tuple[str, str], float] = {}
        self._unwanted: dict[tuple[str, str], float] = {}
        self._counted: set[tuple[str, str]] = set()

    def want(self, records: Sequence[AdapterRecord]) -> None:
        """Takes over what is wanted from now on."""
        self._records = records
        self._changed.set()

    async def run(self) -> None:
        """Looks again and again, as long as there are adapters; else after each change."""
        while True:
            self._changed.clear()
            await self.tend()
            waits = bool(self._records or self._unwanted)
            with suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS if waits else None):
                    await self._changed.wait()

    async def everywhere(self, version: Version, base_model: str) -> None:
        """Loads ``version`` on every pod of ``base_model`` that answers.

        Raises:
            InvalidRequest: A pod refuses it, and why.
            Unavailable: No pod could say.
        """
        pods = self._fleet[base_model].all
        done = await asyncio.gather(*(self._loader.load(pod, version) for pod in pods), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException) and not isinstance(error, (AdapterUnloaded, PodLostError)):
                raise error
        if all(isinstance(error, BaseException) for error in done):
            raise Unavailable(
                f"No pod of the model '{base_model}' could load the adapter, so nothing is changed. Try again.",
                retry_after=5,
            )

    def has(self, version: Version, base_model: str) -> tuple[int, int]:
        """On how many pods ``version`` is loaded, and how many there are."""
        pods = self._fleet[base_model].all
        return sum(version.served in pod.adapters for pod in pods), len(pods)

    async def tend(self) -> None:
        """Looks at every pod once, and mends what is not as it should be."""
        wanted: dict[str, list[Version]] = {model.name: [] for model in self._catalog.bases()}
        for record in self._records:
            wanted.setdefault(record.base_model, []).extend(record.versions)
        pods = [(pod, name) for name in wanted if name in self._fleet for pod in self._fleet[name].all]
        await asyncio.gather(*(self._tend(pod, wanted[name]) for pod, name in pods))
        self._count(pod for pod, _ in pods)

    async def _tend(self, pod: Pod, wanted: Sequence[Version]) -> None:
        if not await self._loader.look(pod):
            return
        for version in wanted:
            if version.served not in pod.adapters and self._may_ask(pod, version):
                await self._load(pod, version)
        named = {version.served for version in wanted}
        now = time.monotonic()
        for served in pod.adapters - named:
            key = (pod.url, served)
            if now - self._unwanted.setdefault(key, now) >= _GRACE_SECONDS and not await self._is_named(served):
                with suppress(InvalidRequest, AdapterUnloaded, PodLostError):
                    await self._loader.unload(pod, served)
                    log.info("adapter_unloading", digest=served.rpartition("@")[2])
        for key in [key for key in self._unwanted if key[0] == pod.url and key[1] not in pod.adapters - named]:
            del self._unwanted[key]

    def _may_ask(self, pod: Pod, version: Version) -> bool:
        return self._refused.get((pod.url, version.served), 0.0) <= time.monotonic()

    async def _load(self, pod: Pod, version: Version) -> None:
        key = (pod.url, version.served)
        try:
            await self._loader.load(pod, version)
        except (AdapterUnloaded, PodLostError) as error:
            log.warning("adapter_not_loaded", adapter=version.adapter, error=type(error).__name__)
        except InvalidRequest as error:
            self._refused[key] = time.monotonic() + _REFUSED_SECONDS
            log.error("adapter_refused", adapter=version.adapter, digest=version.digest, reason=error.message)
        else:
            self._refused.pop(key, None)

    async def _is_named(self, served: str) -> bool:
        """Whether a record names it, by a look at the store: another gateway may know more than this one."""
        try:
            records = await self._store.all()
        except REDIS_AWAY:
            return True  # Nobody can say.
        return any(version.served == served for record in records for version in record.versions)

    def _count(self, pods: Iterable[Pod]) -> None:
        loaded = Counter(served for pod in pods for served in pod.adapters)
        counted = {(record.name, short(version.digest)) for record in self._records for version in record.versions}
        for gone in self._counted - counted:
            PODS.remove(*gone)
        self._counted = counted
        for record in self._records:
            for version in record.versions:
                PODS.labels(record.name, short(version.digest)).set(loaded[version.served])
