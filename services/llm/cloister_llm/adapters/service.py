"""The adapters of this pod: which are loaded, who uses them, and when one that is unwanted may go.

Gateways say what they want, each for itself and as often as they like: loading what is loaded changes nothing, and what
several want to be unloaded goes once. An adapter goes when its last running answer has ended; until then nobody new
gets it, unless somebody loads it again, and then it stays.
"""

import asyncio
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cloister_common.errors import InvalidRequest, NotFound
from cloister_common.logs import get_logger
from cloister_common.supervisor import Supervisor

from cloister_llm.adapters.engine import Loras
from cloister_llm.adapters.fitting import check_fit
from cloister_llm.adapters.folder import copy_of
from cloister_llm.adapters.sources import Bucket, Source, Volume
from cloister_llm.settings import LlmSettings, LoraSettings

__all__ = ["LOAD_ADAPTER", "UNLOAD_ADAPTER", "Adapters"]

log = get_logger(__name__)

LOAD_ADAPTER = "/cloister/adapters/load"
UNLOAD_ADAPTER = "/cloister/adapters/unload"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Adapters:
    """What one pod has of them.

    Args:
        settings: Of the pod. Without ``lora`` it has none.
        supervisor: Of the waiting for running answers.
    """

    def __init__(self, settings: LlmSettings, supervisor: Supervisor) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._source = None if settings.lora is None else _source(settings.lora)
        self._loaded: dict[str, Path] = {}
        self._leaving: set[str] = set()
        self._running: Counter[str] = Counter()
        self._idle: dict[str, asyncio.Event] = {}
        self._lock = asyncio.Lock()

    def names(self) -> list[str]:
        """Those that answer."""
        return [name for name in self._loaded if name not in self._leaving]

    def check(self, model: object) -> None:
        """Raises `NotFound` (``adapter_not_loaded``) for an adapter that is not here: whoever asks loads it first."""
        if self._is_adapter(model) and model not in self.names():
            raise NotFound(f"The adapter '{model}' is not loaded here.", param="model", code="adapter_not_loaded")

    @contextmanager
    def serving(self, model: object) -> Iterator[None]:
        """Keeps the adapter called ``model``, if it is one, for as long as an answer takes."""
        if not self._is_adapter(model):
            yield
            return
        name = str(model)
        self._running[name] += 1
        try:
            yield
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]
                if name in self._idle:
                    self._idle[name].set()

    def _is_adapter(self, model: object) -> bool:
        return self._settings.lora is not None and isinstance(model, str) and model != self._settings.model.name

    async def load(self, body: Any, loras: Loras) -> None:
        """Loads what ``body`` names: ``name``, ``folder`` and ``digest``, in which the name ends.

        Raises:
            InvalidRequest: It is refused, and why.
            Unavailable: Where it lies does not answer.
        """
        if self._settings.lora is None or self._source is None:
            raise InvalidRequest(
                "The model's pods take no adapters. Set 'lora' in their settings.",
                param="base_model",
                code="no_adapters",
            )
        name, folder, digest = _texts(body, ("name", "folder", "digest"))
        if not _DIGEST.fullmatch(digest) or not name.endswith(f"@{digest}"):
            raise InvalidRequest("'digest' must be 'sha256:' and 64 digits, in which 'name' ends.", param="digest")
        async with self._lock:
            self._leaving.discard(name)
            if name in self._loaded:
                return
            copies = self._copies()
            path = await asyncio.to_thread(
                copy_of, self._source, folder, digest, copies, max_mib=self._settings.lora.max_mib
            )
            await asyncio.to_thread(check_fit, path, self._settings.model.path, self._settings.lora.rank)
            await loras.load(name, str(path))
            self._loaded[name] = path
        log.info("adapter_loaded", digest=digest)

    def unload(self, body: Any, loras: Loras) -> None:
        """Begins to unload what ``body`` names; nobody new gets it from now on."""
        (name,) = _texts(body, ("name",))
        if name in self._loaded and name not in self._leaving:
            self._leaving.add(name)
            self._supervisor.spawn("adapter-unload", self._leave(name, loras))

    async def _leave(self, name: str, loras: Loras) -> None:
        while name in self._leaving and self._running[name]:
            idle = self._idle.setdefault(name, asyncio.Event())
            idle.clear()
            await idle.wait()
        async with self._lock:
            if name not in self._leaving or self._running[name]:
                return  # It was loaded again meanwhile.
            await loras.unload(name)
            path = self._loaded.pop(name)
            self._leaving.discard(name)
            self._idle.pop(name, None)
            if path not in self._loaded.values():  # The same may be served under two names.
                with suppress(OSError):
                    await asyncio.to_thread(shutil.rmtree, path)
        log.info("adapter_unloaded", digest=name.rpartition("@")[2])

    def _copies(self) -> Path:
        return self._settings.engine.cache_dir / "adapters"


def _source(lora: LoraSettings) -> Source:
    if lora.folder is not None:
        return Volume(lora.folder)
    assert lora.bucket is not None
    return Bucket(lora.bucket)


def _texts(body: Any, fields: tuple[str, ...]) -> list[str]:
    if not isinstance(body, Mapping) or set(body) != set(fields):
        raise InvalidRequest(f"The body must be an object with {', '.join(fields)}.", code="invalid_json")
    values = [body[field] for field in fields]
    for field, value in zip(fields, values, strict=True):
        if not isinstance(value, str) or not value or "\0" in value:
            raise InvalidRequest(f"Invalid value for '{field}': must be text.", param=field)
    return values
