"""The rules of batches: who may create one of what, and what becomes of it."""

import time
from typing import Any

from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import Conflict, InvalidRequest, NotFound
from cloister_common.ids import new_id

from cloister_gateway.batch_settings import BatchSettings
from cloister_gateway.batches.endpoints import Endpoint
from cloister_gateway.batches.records import BatchCaller, BatchRecord
from cloister_gateway.batches.schemas import BatchCreate, batch_body, window_seconds
from cloister_gateway.batches.store import BatchStore
from cloister_gateway.batches.worker import BatchWorker
from cloister_gateway.identity.principal import Principal
from cloister_gateway.storage import KeyedObject

__all__ = ["BatchService"]


class BatchService:
    """Creates, shows and cancels batches.

    Args:
        store: Their records.
        worker: Works on them.
        endpoints: What lines may ask for, by path.
        retriever: Has the input files.
        settings: How large they may be.
    """

    def __init__(
        self,
        store: BatchStore,
        worker: BatchWorker,
        endpoints: dict[str, Endpoint],
        retriever: RetrieverClient,
        settings: BatchSettings,
    ) -> None:
        self._store = store
        self._worker = worker
        self._endpoints = endpoints
        self._retriever = retriever
        self._settings = settings

    async def create(self, principal: Principal, asked: BatchCreate) -> dict[str, Any]:
        """Takes a batch on. Durable, and to be validated, when this returns.

        Raises:
            Forbidden: The key may not ask the endpoint, or read files.
            NotFound: There is no such file for the caller.
            InvalidRequest: The file is for something else, or too large.
        """
        seconds = window_seconds(asked.completion_window)
        principal.require(self._endpoints[asked.endpoint].scope, param="endpoint")
        principal.require("files", param="input_file_id")
        size = await self._input_size(principal, asked.input_file_id)
        now = int(time.time())
        record = BatchRecord(
            endpoint=asked.endpoint,
            input_file_id=asked.input_file_id,
            input_bytes=size,
            completion_window=asked.completion_window,
            created_at=now,
            expires_at=now + seconds,
            metadata=asked.metadata,
            file_seconds=None if asked.output_expires_after is None else asked.output_expires_after.seconds,
            caller=BatchCaller.of(principal),
        )
        batch_id = new_id("batch_")
        await self._worker.announce(batch_id)
        keyed = await self._store.create(principal.tenant, batch_id, record)
        body = await self._body(keyed)
        await self._worker.begin(batch_id)
        return body

    async def retrieve(self, principal: Principal, batch_id: str) -> dict[str, Any]:
        """The batch as it is now. Raises `NotFound` for unknown and foreign ones alike."""
        return await self._body(await self._find(principal, batch_id))

    async def list(self, principal: Principal, *, after: str | None, limit: int) -> dict[str, Any]:
        """A page of the project's batches, newest first."""
        batches, has_more = await self._store.page(principal.tenant, after=after, limit=limit)
        return {
            "object": "list",
            "data": [batch_body(batch) for batch in batches],
            "first_id": batches[0].id if batches else None,
            "last_id": batches[-1].id if batches else None,
            "has_more": has_more,
        }

    async def cancel(self, principal: Principal, batch_id: str) -> dict[str, Any]:
        """Has a batch cancelled: what is under way for it is stopped, and what is done is kept.

        Raises:
            NotFound: As `retrieve`.
            Conflict: It has ended, or its files are being written.
        """
        keyed = await self._find(principal, batch_id)
        in_time = await self._store.cancel(batch_id)
        body = await self._body(keyed)
        if not in_time and body["cancelling_at"] is None:
            raise Conflict(
                f"The batch '{batch_id}' cannot be cancelled any more: its status is '{body['status']}'.",
                param="batch_id",
            )
        self._worker.look(batch_id)
        return body

    async def _input_size(self, principal: Principal, file_id: str) -> int:
        try:
            file = await self._retriever.file(principal.tenant, file_id, caller=principal.reader)
        except NotFound as error:
            raise NotFound(error.message, param="input_file_id") from error
        if file.get("purpose") != "batch":
            raise InvalidRequest(
                f"The file '{file_id}' has the purpose '{file.get('purpose')}'. Upload it with the purpose 'batch'.",
                param="input_file_id",
                code="invalid_purpose",
            )
        size = int(file["bytes"])
        if size > self._settings.input_bytes:
            raise InvalidRequest(
                f"The file has {size} bytes, and a batch may have {self._settings.input_bytes}. Send it as several.",
                param="input_file_id",
                code="file_too_large",
            )
        return size

    async def _find(self, principal: Principal, batch_id: str) -> KeyedObject:
        header = await self._store.header(batch_id)
        keyed = None if header is None or header.tenant != principal.tenant else await self._store.keyed(header)
        if keyed is None:
            raise _no_batch(batch_id)
        return keyed

    async def _body(self, keyed: KeyedObject) -> dict[str, Any]:
        stored = await self._store.read(keyed)
        if stored is None:
            raise _no_batch(keyed.id)
        return batch_body(stored)


def _no_batch(batch_id: str) -> NotFound:
    return NotFound(f"No batch found with id '{batch_id[:128]}'.", param="batch_id")
