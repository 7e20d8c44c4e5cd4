"""Parts of the results of batches in the fake retriever."""

import asyncio
import re
import threading
from typing import Any

from fastapi import Request
from starlette.responses import Response

from cloister_common.errors import NotFound, Unavailable
from cloister_common.internal import tenant_of

__all__ = ["FakeParts"]

_BATCH, _PART = re.compile(r"batch_[0-9a-f]{48}"), re.compile(r"part_[0-9a-f]{48}")


class FakeParts:
    """Keeps them as they come.

    Attributes:
        kept: By tenant, batch and part.
        written: The ids of all that were written so far.
        may_keep: While it is not set, writes are counted in ``waiting`` and wait: before the part is kept, or behind
            that, as ``hold_kept`` says.
        refused: The methods that are refused, as by a store that is away.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], bytes] = {}
        self.written: list[str] = []
        self.may_keep = threading.Event()
        self.may_keep.set()
        self.hold_kept = False
        self.waiting = 0
        self.refused: set[str] = set()

    def routes(self) -> list[tuple[str, str, Any]]:
        """Method, path and handler of each route."""
        path = "/internal/batches/{batch_id}/parts"
        return [
            ("PUT", f"{path}/{{part_id}}", self._write),
            ("GET", f"{path}/{{part_id}}", self._read),
            ("DELETE", path, self._drop),
        ]

    async def _write(self, request: Request, batch_id: str, part_id: str) -> Response:
        self._check(request)
        content = await request.body()
        if not self.hold_kept:
            await self._wait()
        self.kept[(tenant_of(request), batch_id, part_id)] = content
        self.written.append(part_id)
        if self.hold_kept:
            await self._wait()
        return Response(status_code=204)

    async def _read(self, request: Request, batch_id: str, part_id: str) -> Response:
        self._check(request)
        found = self.kept.get((tenant_of(request), batch_id, part_id))
        if found is None:
            raise NotFound(f"No such part: '{part_id}'.")
        return Response(found, media_type="application/octet-stream")

    async def _drop(self, request: Request, batch_id: str) -> Response:
        self._check(request)
        for name in [name for name in self.kept if name[:2] == (tenant_of(request), batch_id)]:
            del self.kept[name]
        return Response(status_code=204)

    def _check(self, request: Request) -> None:
        ids = request.path_params
        if not _BATCH.fullmatch(ids["batch_id"]) or not _PART.fullmatch(ids.get("part_id", "part_" + "0" * 48)):
            raise NotFound("No such batch or part.")
        if request.method in self.refused:
            raise Unavailable("The object store does not answer. Try again in a moment.", retry_after=1)

    async def _wait(self) -> None:
        if not self.may_keep.is_set():
            self.waiting += 1
            await asyncio.to_thread(self.may_keep.wait)
