"""What lives as long as the process: the tokens, the models with their queues, the threads. Closed in reverse."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cloister_common.access import Services
from cloister_common.internal import InternalTokens
from cloister_common.settings import read_secret_lines
from cloister_common.supervisor import Supervisor

from cloister_embedder.embeddings.service import EmbeddingService
from cloister_embedder.models import Encoder, check_folder, load_encoder
from cloister_embedder.models.compute import available_cores
from cloister_embedder.models.memory import bound_memory
from cloister_embedder.registry import Loader, Registry
from cloister_embedder.rerank.service import RerankService
from cloister_embedder.settings import EmbedderSettings, ModelSettings

__all__ = ["Context"]

_TOKENIZER_THREADS = 2
"""One for a bulk request's groups of texts, one that is free for a query."""


class Context:
    """Everything of the embedder. Routes see of it what `services` provides.

    Args:
        settings: The embedder's settings.
        load: How a folder becomes an encoder; tests give a fake one.

    Raises:
        SettingsError: The token file or a model folder is not usable.
    """

    def __init__(self, settings: EmbedderSettings, load: Loader | None = None) -> None:
        self.settings = settings
        self.tokens = InternalTokens(read_secret_lines(settings.token_file, what="the embedder's internal token"))
        if load is None:
            for name, model in settings.models.items():
                check_folder(name, model)
        self._supervisor = Supervisor()
        self.registry = Registry(settings, load or self._load, self._supervisor)
        self._tokenizers = ThreadPoolExecutor(_TOKENIZER_THREADS, thread_name_prefix="tokenize")
        self.services = Services(
            self.registry,
            EmbeddingService(self.registry, self._tokenizers),
            RerankService(self.registry, self._tokenizers),
        )

    def start(self) -> None:
        """Begins to load the models; needs the running event loop."""
        self.registry.start()

    async def close(self) -> None:
        """Ends loops, queues and threads."""
        await self._supervisor.close()
        await self.registry.close()
        await asyncio.to_thread(self._tokenizers.shutdown)

    def _load(self, name: str, model: ModelSettings) -> Encoder[Any]:
        bound_memory()
        import torch  # takes seconds, and /livez answers meanwhile

        torch.set_num_threads(available_cores(self.settings.compute))
        return load_encoder(name, model, self.settings.compute)
