"""The models of this process: which are there, which are still loading, and the queue of each."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from cloister_common.app import ReadinessCheck
from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.settings import SettingsError
from cloister_common.supervisor import Supervisor
from cloister_common.wire.models import ModelKind, model_object, refusal_of_model

from cloister_embedder import metrics
from cloister_embedder.batching import Batcher, BatcherLimits, BatchLimits
from cloister_embedder.models import Encoder
from cloister_embedder.settings import EmbedderSettings, ModelSettings

__all__ = ["LoadedModel", "Loader", "Registry"]

log = get_logger(__name__)

Loader = Callable[[str, ModelSettings], Encoder[Any]]
"""Reads one model into memory; called in a thread."""


class LoadedModel:
    """A model that serves."""

    def __init__(self, name: str, kind: ModelKind, encoder: Encoder[Any], batcher: Batcher[Any]) -> None:
        self.name = name
        self.kind = kind
        self.encoder = encoder
        self.batcher = batcher


class Registry:
    """Loads the models of the settings one after another and finds them by name.

    Args:
        settings: The embedder's settings.
        load: How a folder becomes an encoder.
        supervisor: Runs the loading and the batch loops.
    """

    def __init__(self, settings: EmbedderSettings, load: Loader, supervisor: Supervisor) -> None:
        self._settings = settings
        self._load = load
        self._supervisor = supervisor
        self._kinds: dict[str, ModelKind] = {name: model.kind for name, model in settings.models.items()}
        self._loaded: dict[str, LoadedModel] = {}
        self._failed: dict[str, str] = {}
        self._turn = threading.Lock()
        self._started = time.time()

    def start(self) -> None:
        """Begins to load. Models become available one by one."""
        for name in self._settings.models:
            metrics.MODEL_READY.labels(name).set(0)
        self._supervisor.spawn("load-models", self._load_all())

    async def close(self) -> None:
        """Ends the queues. The supervisor must have been closed before."""
        for model in self._loaded.values():
            await model.batcher.close()

    def get(self, name: str, *kinds: ModelKind) -> LoadedModel:
        """The loaded model ``name``, which must be one of ``kinds``.

        Raises:
            NotFound: There is no such model.
            InvalidRequest: It is for something else.
            Unavailable: It is still loading, or could not be loaded.
        """
        refusal = refusal_of_model(name, self._kinds, *kinds)
        if refusal is not None:
            raise refusal
        loaded = self._loaded.get(name)
        if loaded is None:
            raise self._not_ready(name)
        return loaded

    def checks(self) -> Mapping[str, ReadinessCheck]:
        """A readiness check for each model."""
        return {f"model {name}": self._check(name) for name in self._settings.models}

    def listing(self) -> list[dict[str, Any]]:
        """OpenAI's model objects of the models that serve, with what callers need to know under ``cloister``."""
        return [
            model_object(
                model.name,
                model.kind,
                dimensions=model.encoder.dimensions,
                max_tokens=model.encoder.max_tokens,
                created=int(self._started),
            )
            for model in self._loaded.values()
        ]

    def _check(self, name: str) -> ReadinessCheck:
        async def check() -> None:
            if name not in self._loaded:
                raise self._not_ready(name)

        return check

    def _not_ready(self, name: str) -> Unavailable:
        if name in self._failed:
            return Unavailable(f"The model '{name}' could not be loaded: {self._failed[name]}")
        return Unavailable(f"The model '{name}' is still loading.", code="model_loading", retry_after=2)

    async def _load_all(self) -> None:
        for name, settings in self._settings.models.items():
            started = time.monotonic()
            try:
                encoder = await asyncio.to_thread(self._load, name, settings)
            except Exception as error:
                # The readiness probe carries the reason; the other models serve meanwhile.
                self._failed[name] = str(error) if isinstance(error, SettingsError) else type(error).__name__
                log.error("model_failed", model=name, exc_info=error)
                continue
            self._serve(name, settings, encoder)
            log.info("model_loaded", model=name, seconds=round(time.monotonic() - started, 2))

    def _serve(self, name: str, settings: ModelSettings, encoder: Encoder[Any]) -> None:
        queue = self._settings.queue
        limits = BatcherLimits(
            # One text of full length must fit, whatever the settings say.
            batch=BatchLimits(
                settings.max_batch_texts,
                max(settings.max_batch_tokens or encoder.batch_tokens, encoder.max_tokens),
            ),
            window_seconds=queue.window_seconds,
            interactive_texts=queue.interactive_texts,
            max_waiting={"interactive": queue.max_interactive_texts, "bulk": queue.max_bulk_texts},
        )
        batcher: Batcher[Any] = Batcher(name, encoder, limits, self._turn)
        self._loaded[name] = LoadedModel(name, settings.kind, encoder, batcher)
        self._supervisor.loop(f"batches-{name}", batcher.run)
        metrics.MODEL_READY.labels(name).set(1)
