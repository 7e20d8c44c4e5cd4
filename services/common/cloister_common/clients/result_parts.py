"""What became of a batch that runs, as the gateway has the retriever keep it: sealed parts, which are no files yet."""

from typing import Protocol
from urllib.parse import quote

import httpx

from cloister_common.errors import NotFound

__all__ = ["ResultParts"]


class _Call(Protocol):
    async def __call__(self, tenant: str, method: str, path: str, content: bytes | None = None) -> httpx.Response:
        """Asks the retriever, and raises as `cloister_common.clients.call.call` does."""


class ResultParts:
    """Keeps parts of results; `cloister_common.clients.retriever.RetrieverClient` has one.

    All of it raises `Unavailable` while the retriever is down, takes too long or is short of room.

    Args:
        call: Asks the retriever.
    """

    def __init__(self, call: _Call) -> None:
        self._call = call

    async def put(self, tenant: str, batch_id: str, part_id: str, content: bytes) -> None:
        """Keeps a part, which is durable then. Its writer has sealed it."""
        await self._call(tenant, "PUT", _path(batch_id, part_id), content)

    async def get(self, tenant: str, batch_id: str, part_id: str) -> bytes | None:
        """A part as it was kept; None if there is none."""
        try:
            return (await self._call(tenant, "GET", _path(batch_id, part_id))).content
        except NotFound:
            return None

    async def drop(self, tenant: str, batch_id: str) -> None:
        """Removes all parts of a batch."""
        await self._call(tenant, "DELETE", _path(batch_id))


def _path(batch_id: str, part_id: str = "") -> str:
    path = f"/internal/batches/{quote(batch_id, safe='')}/parts"
    return f"{path}/{quote(part_id, safe='')}" if part_id else path
