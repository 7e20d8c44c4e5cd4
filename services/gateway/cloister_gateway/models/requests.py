"""What is asked of a pod: one request as it is sent.

Every request gets the tenant's ``cache_salt`` here, so that no caller of this room can forget it: prefixes are shared
within a tenant only, and timing tells nobody what another tenant asked.
"""

from typing import Any, Literal, NamedTuple

import orjson
from cloister_common.vault import Keyring
from cloister_common.vault.cache import ShortCache

from cloister_gateway.models.adapters.metrics import version_calls
from cloister_gateway.models.adapters.records import Version, chosen
from cloister_gateway.models.catalog import Catalog
from cloister_gateway.models.images import own_images
from cloister_gateway.models.picking import Picking
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.work import WorkClass

__all__ = ["CHAT", "TEXT", "Path", "PodRequest", "Requests"]

Path = Literal["/v1/chat/completions", "/v1/completions"]
CHAT: Path = "/v1/chat/completions"
TEXT: Path = "/v1/completions"
"""How a pod is asked to go on from a text that is no chat."""

_BYTES_A_TOKEN = 4
"""Of a request's JSON, about: loads are compared with each other only."""

_SALT_SECONDS = 300.0
_MOST_SALTS = 10_000


class PodRequest(NamedTuple):
    """One request as it is sent to a pod."""

    model: str
    path: str
    raw: bytes
    affinity: str | None
    tokens: int
    """Of its prompt and its longest answer, about."""
    headers: str = ""
    """For who chooses among the pods, where that is somebody else."""
    version: Version | None = None
    """Of the adapter that it asks for."""
    size: int = 0
    """Bytes of ``raw`` without images."""
    answer: int = 0
    """Its longest answer, in tokens."""
    prioritised: bool = True
    """Whether its pods schedule by priority; one that does not refuses every other priority than 0."""

    def with_priority(self, priority: int) -> "PodRequest":
        """The same, with vLLM's ``priority``."""
        if not priority or not self.prioritised:
            return self
        return self._replace(raw=b'%b,"priority":%d}' % (self.raw[:-1], priority))


class Requests:
    """Makes them."""

    def __init__(self, catalog: Catalog, keyring: Keyring) -> None:
        self._catalog = catalog
        self._keyring = keyring
        self._picking = Picking(keyring)
        self._salts: ShortCache[str] = ShortCache(seconds=_SALT_SECONDS, most=_MOST_SALTS)

    async def cache_salt(self, tenant: str) -> str:
        """What separates the tenant's prefix cache from every other's."""
        salt = self._salts.get(tenant)
        if salt is None:
            salt = await self._keyring.name(tenant, "cache-salt")
            self._salts.put(tenant, salt)
        return salt

    async def make(
        self,
        model: str,
        path: Path,
        body: dict[str, Any],
        tenant: str,
        affinity: str | None,
        attempts: Attempts,
        work: WorkClass,
    ) -> PodRequest:
        """The request for ``body``, of which ``messages`` may be changed; see `ModelUpstream.stream_events`."""
        known = self._catalog.get(model)
        served = model
        if known.versions:
            attempts.version = attempts.version or chosen(known.versions, affinity)
            attempts.served.adapter = served = attempts.version.served
            version_calls(model, attempts.version.digest).inc()
        asked = body.get("max_completion_tokens") or body.get("max_tokens")
        answer = known.answer_tokens(asked) * (body.get("n") or 1)
        salt, images = await self.cache_salt(tenant), 0
        if known.images and "messages" in body:
            body["messages"], images = own_images(body["messages"], salt)
        raw = orjson.dumps({**body, "model": served, "cache_salt": salt})
        headers = ""
        if known.pool is not None:
            headers = await self._picking.headers(known.pool, tenant, affinity, work)
        size = len(raw) - images
        tokens = size // _BYTES_A_TOKEN + answer
        prioritised = known.pool is None or known.pool.priorities
        return PodRequest(
            model, path, raw, affinity, tokens, headers, attempts.version, size, answer, prioritised=prioritised
        )
