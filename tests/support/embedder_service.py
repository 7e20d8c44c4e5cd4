"""The real embedder over its real models: MiniLM, and tiny ones of the kinds that no package carries."""

import contextlib
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
from tests.support.waiting import wait_until

RERANKER = "tiny-reranker"
CLIP = "tiny-clip"
_LOAD_SECONDS = 180.0


@contextlib.contextmanager
def real_embedder(folder: Path, *, texts_only: bool = False) -> Iterator[str]:
    """Serves MiniLM, and unless it is for ``texts_only`` a tiny CLIP that knows what `drawn` draws, which is trained
    first, and a tiny cross-encoder; gives the base URL once all are loaded."""
    # Which type is fastest differs from machine to machine, and how near equal texts come with it.
    models: dict[str, dict[str, object]] = {MINILM: {"kind": "text", "path": minilm_folder(), "dtype": "float32"}}
    if not texts_only:
        models[CLIP] = {"kind": "image", "path": make_clip(folder / "clip", trained=True)}
        models[RERANKER] = {"kind": "rerank", "path": make_reranker(folder / "reranker")}
    with served(create_app(embedder_settings(folder, models))) as url:
        wait_until_ready(url)
        yield url


def wait_until_ready(url: str) -> None:
    """Returns when ``/readyz`` says so; fails after three minutes."""
    wait_until(lambda: is_ready(url), seconds=_LOAD_SECONDS, what=f"the embedder at {url} is ready", every=0.1)


def is_ready(url: str) -> bool:
    """Whether an embedder there has loaded every model."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).is_success
    except httpx.TransportError:
        return False


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
