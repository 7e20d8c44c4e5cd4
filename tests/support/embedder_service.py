"""The real embedder over its real models: MiniLM, and tiny ones of the kinds that no package carries."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from cloister_common.clients.call import RetryPolicy
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.internal import InternalTokens
from cloister_common.settings import ClientTls
from cloister_common.testing.serving import served
from cloister_embedder.app import create_app

from tests.support.embedder import EMBEDDER_TOKEN, embedder_settings
from tests.support.models import MINILM, minilm_folder
from tests.support.tiny_models import make_clip, make_reranker

RERANKER = "tiny-reranker"
CLIP = "tiny-clip"
_LOAD_SECONDS = 180.0


@contextlib.contextmanager
def real_embedder(folder: Path) -> Iterator[str]:
    """Serves MiniLM, a tiny CLIP and a tiny cross-encoder; gives the base URL once all are loaded."""
    settings = embedder_settings(
        folder,
        {
            MINILM: {"kind": "text", "path": minilm_folder()},
            CLIP: {"kind": "image", "path": make_clip(folder / "clip")},
            RERANKER: {"kind": "rerank", "path": make_reranker(folder / "reranker")},
        },
    )
    with served(create_app(settings)) as url:
        wait_until_ready(url)
        yield url


def wait_until_ready(url: str) -> None:
    """Returns when ``/readyz`` says so; raises with its last answer after three minutes."""
    deadline = time.monotonic() + _LOAD_SECONDS
    last = "no answer"
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            response = httpx.get(f"{url}/readyz", timeout=5)
            if response.is_success:
                return
            last = response.text
        threading.Event().wait(0.2)
    raise TimeoutError(f"the embedder did not become ready: {last}")


class ClientMaker:
    """Makes clients with the tests' token and short pauses between attempts, and closes all of them."""

    def __init__(self) -> None:
        self._made: list[EmbedderClient] = []

    def __call__(
        self, url: str, *, model: str = MINILM, token: str = EMBEDDER_TOKEN, deadline_seconds: float = 60.0
    ) -> EmbedderClient:
        client = EmbedderClient(
            url,
            InternalTokens([token.encode()]),
            ClientTls(),
            model,
            deadline_seconds=deadline_seconds,
            retry=RetryPolicy(attempts=4, first_seconds=0.01, longest_seconds=0.05),
        )
        self._made.append(client)
        return client

    async def close(self) -> None:
        for client in self._made:
            await client.close()
