"""Sealed records: the small JSON documents (files, stores, attachments, outcomes, batches) in the object store.

A record is bound to its kind, tenant and path, so that one cannot be put in another's place. Listings read only what
changed since this process last looked (by the object's e-tag), so that a search that filters on attributes costs one
listing, not a read of every record.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, VaultError, encode_context, open_record, seal
from pydantic import BaseModel, ValidationError

from cloister_retriever.storage.objects import ListedObject, Objects, each

__all__ = ["SealedRecords"]

log = get_logger(__name__)
R = TypeVar("R", bound=BaseModel)

_CACHED_RECORDS = 20_000
"""About 1 KiB each: 20 MB of a process."""


class SealedRecords:
    """Reads and writes pydantic models, sealed with the ``metadata`` sub-key of their object's data key."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._cache: OrderedDict[str, tuple[str, BaseModel]] = OrderedDict()

    async def put(self, path: str, record: BaseModel, key: DataKey) -> None:
        """Writes or replaces the record."""
        await self._objects.put(path, self._seal(path, record, key))

    async def create(self, path: str, record: BaseModel, key: DataKey) -> bool:
        """Writes the record unless there is one; says whether it did."""
        return await self._objects.create(path, self._seal(path, record, key))

    async def get(self, path: str, model: type[R], key: DataKey) -> R | None:
        """The record as it is now, or None.

        Raises:
            VaultError: There is one, but it does not open here, or lacks a field.
        """
        sealed = await self._objects.get(path)
        return None if sealed is None else self._open(path, model, key, sealed)

    async def find(self, path: str, model: type[R], key_of: Callable[[], Awaitable[DataKey | None]]) -> R | None:
        """Like `get`, but asks for the key only if there is a record. None if either is missing."""
        sealed = await self._objects.get(path)
        key = None if sealed is None else await key_of()
        return None if sealed is None or key is None else self._open(path, model, key, sealed)

    async def list(
        self,
        prefix: str,
        model: type[R],
        key_of: Callable[[str], Awaitable[DataKey | None]],
        lost: Callable[[str], R] | None = None,
    ) -> list[R]:
        """Every record under ``prefix``. ``key_of`` gives the key for the last segment of a path.

        A record whose key is gone (its object is being deleted) is left out. One that does not open is logged, and
        ``lost`` says, by the last segment of its path, what stands in its place; without it nothing does.
        """

        async def one(listed: ListedObject) -> R | None:
            cached = self._cache.get(listed.path)
            if cached is not None and cached[0] == listed.e_tag and isinstance(cached[1], model):
                self._cache.move_to_end(listed.path)
                return cached[1]
            try:
                key = await key_of(listed.leaf)
                record = None if key is None else await self.get(listed.path, model, key)
            except VaultError:
                log.error("record_did_not_open", kind=model.__name__, id=listed.leaf)
                return None if lost is None else lost(listed.leaf)
            if record is not None and listed.e_tag:
                self._remember(listed.path, listed.e_tag, record)
            return record

        found = await each(one, await self._objects.list(prefix))
        return [record for record in found if record is not None]

    async def delete(self, path: str) -> None:
        """Removes the record; no error if there is none."""
        self._cache.pop(path, None)
        await self._objects.delete(path)

    def _remember(self, path: str, e_tag: str, record: BaseModel) -> None:
        self._cache[path] = (e_tag, record)
        self._cache.move_to_end(path)
        while len(self._cache) > _CACHED_RECORDS:
            self._cache.popitem(last=False)

    def _seal(self, path: str, record: BaseModel, key: DataKey) -> bytes:
        return seal(key.subkey("metadata"), record.model_dump_json().encode(), self._context(path, type(record), key))

    def _open(self, path: str, model: type[R], key: DataKey, sealed: bytes) -> R:
        plain = open_record(key.subkey("metadata"), sealed, self._context(path, model, key))
        try:
            return model.model_validate_json(plain)
        except ValidationError:
            # Without its cause, which quotes the record.
            raise VaultError from None

    def _context(self, path: str, model: type[BaseModel], key: DataKey) -> bytes:
        return encode_context("retriever-record", model.__name__, key.tenant, path)
