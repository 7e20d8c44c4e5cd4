"""The services of ours behind the gateway, as routes that pass requests on to them speak to them."""

from dataclasses import dataclass

import httpx
from cloister_common.errors import Unavailable
from cloister_common.internal import InternalTokens

__all__ = ["Embedder", "Retriever"]


@dataclass(frozen=True, slots=True)
class _Service:
    """A service: its client, the tokens that it answers to, and the longest wait for an answer."""

    client: httpx.AsyncClient
    tokens: InternalTokens
    timeout_seconds: float

    def headers(self, tenant: str) -> dict[str, str]:
        """The headers of a call made for ``tenant``."""
        return self.tokens.headers(tenant)

    async def check(self) -> None:
        """Raises `Unavailable` unless it says that it is ready."""
        response = await self.client.get("/readyz")
        if response.status_code != 200:
            raise Unavailable("not ready")


class Embedder(_Service):
    """The embedder."""


class Retriever(_Service):
    """The retriever."""
