"""Sealed records: the small JSON documents (files, stores, attachments, outcomes, batches) in the object store.

A record is bound to its kind, tenant and path, so that one cannot be put in another's place. Listings read only what
changed since this process last looked (by the object's e-tag), so that a search that filters on attributes costs one
listing, not a read of every record.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, VaultError, encode_context, open_record, seal
from pydantic import BaseModel, ValidationError

from cloister_retriever.storage.objects import ListedObject, Objects, each

__all__ = ["RecordKind", "SealedRecords"]

log = get_logger(__name__)
R = TypeVar("R", bound=BaseModel)

_CACHED_RECORDS = 40_000
"""About 1 KiB each: 40 MB of a process. A store of ten thousand files has an attachment, an outcome and an access list
of each."""


@dataclass(frozen=True)
class RecordKind(Generic[R]):
    """How the records of a folder are read.

    Args:
        model: What they are.
        key_of: Gives the key for the last segment of a path. A record whose key is gone (its object is being deleted)
            is left out.
        lost: What stands, by the last segment of its path, in the place of one that does not open; by default nothing.
    """

    model: type[R]
    key_of: Callable[[str], Awaitable[DataKey | None]]
    lost: Callable[[str], R | None] = lambda _: None


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

    async def change(self, path: str, model: type[R], key: DataKey, change: Callable[[R | None], R | None]) -> R | None:
        """Makes of a record, or of None where there is none, what ``change`` says; None leaves it. Begins anew where
        another was faster. Returns the record as it then is."""
        while True:
            sealed = await self._objects.get(path)
            before = None if sealed is None else self._open(path, model, key, sealed)
            after = change(before)
            if after is None:
                return before
            written = self._seal(path, after, key)
            if sealed is None:
                done = await self._objects.create(path, written)
            else:
                done = await self._objects.replace(path, sealed, written)
            if done:
                return after

    async def find(self, path: str, model: type[R], key_of: Callable[[], Awaitable[DataKey | None]]) -> R | None:
        """Like `get`, but asks for the key only if there is a record. None if either is missing."""
        sealed = await self._objects.get(path)
        key = None if sealed is None else await key_of()
        return None if sealed is None or key is None else self._open(path, model, key, sealed)

    async def some(self, prefix: str, names: Collection[str], kind: RecordKind[R]) -> list[R]:
        """Those of the records of a folder that have these last segments, which should lie near each other."""
        if not names:
            return []
        wanted = set(names)
        around = self._objects.between(prefix, after=min(names)[:-1], until=f"{max(names)}~")
        return await self.read([listed async for part in around for listed in part if listed.leaf in wanted], kind)

    async def read(self, listed: Iterable[ListedObject], kind: RecordKind[R]) -> list[R]:
        """The records of a listing, as far as there are any."""

        async def one(listed: ListedObject) -> R | None:
            try:
                key = await kind.key_of(listed.leaf)
                record = None if key is None else await self.get(listed.path, kind.model, key)
            except VaultError:
                log.error("record_did_not_open", kind=kind.model.__name__, id=listed.leaf)
                return kind.lost(listed.leaf)
            if record is not None and listed.e_tag:
                self._remember(listed.path, listed.e_tag, record)
            return record

        # What is known costs no task: a folder of ten thousand records, of which one was written, is read in no time.
        every = list(listed)
        known = [self._known(one, kind.model) for one in every]
        unknown = iter(await each(one, [one for one, record in zip(every, known, strict=True) if record is None]))
        records = [next(unknown) if record is None else record for record in known]
        return [record for record in records if record is not None]

    async def list(self, prefix: str, kind: RecordKind[R]) -> list[R]:
        """Every record of a folder."""
        return await self.read([listed async for part in self._objects.between(prefix) for listed in part], kind)

    async def delete(self, path: str) -> None:
        """Removes the record; no error if there is none."""
        self._cache.pop(path, None)
        await self._objects.delete(path)

    def _known(self, listed: ListedObject, model: type[R]) -> R | None:
        cached = self._cache.get(listed.path)
        if cached is None or cached[0] != listed.e_tag or not isinstance(cached[1], model):
            return None
        self._cache.move_to_end(listed.path)
        return cached[1]

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
