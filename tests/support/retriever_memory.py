"""A retriever's services in memory that can be killed between any two writes, and started again on what is stored."""

import os
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from cloister_common.clients.embedder import EmbedderClient, Embeddings
from cloister_common.errors import Unavailable
from cloister_common.supervisor import Supervisor
from cloister_common.testing.embedder import fake_vector
from cloister_common.vault import Keyring, encode_context, open_record, seal
from cloister_retriever.context import ending_of
from cloister_retriever.files.schemas import FileRecord
from cloister_retriever.files.service import FileService
from cloister_retriever.files.store import FileStore
from cloister_retriever.files.upload import MultipartUpload
from cloister_retriever.index.protocol import Entry, Found, Index, Question
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.index.rows import hits_of, row_of
from cloister_retriever.ingestion.pipeline import Pipeline
from cloister_retriever.ingestion.worker import IngestWorkers
from cloister_retriever.jobs.due import Due
from cloister_retriever.jobs.purges import Purges
from cloister_retriever.jobs.queue import JobQueue
from cloister_retriever.keys import PassageKeyring
from cloister_retriever.parsing.chunking import Chunk, Chunker
from cloister_retriever.parsing.parser import Interruption, Parsed, Parser
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.sealed.memory import OpenStores
from cloister_retriever.sealed.packs import Packs
from cloister_retriever.search.service import SearchService
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.objects import Objects
from cloister_retriever.storage.records import SealedRecords
from cloister_retriever.storage.uses import FileUses
from cloister_retriever.uploads.service import UploadService
from cloister_retriever.uploads.store import UploadStore
from cloister_retriever.vector_stores.attachments import AttachmentService, ChunkingPolicy
from cloister_retriever.vector_stores.batches import BatchService
from cloister_retriever.vector_stores.expiry import Expiries
from cloister_retriever.vector_stores.ingestions import IngestionService
from cloister_retriever.vector_stores.records import Chunking
from cloister_retriever.vector_stores.service import VectorStoreService
from cloister_retriever.vector_stores.store import VectorStoreStore
from cloister_retriever.vector_stores.terms import Words
from obstore.store import MemoryStore, ObjectStore

__all__ = ["LEASE_SECONDS", "SEALED_PASSAGES", "TENANT", "Killed", "MemoryProcess", "MemoryRoot", "Stored", "form_of"]

TENANT = "proj_a"
LEASE_SECONDS = 0.05
SEALED_PASSAGES = 20
_DIMENSIONS = 8


class Killed(BaseException):
    """The process is dead: none of its writes comes through any more."""


class MemoryRoot:
    """A root key in memory."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = os.urandom(32) if key is None else key

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        return seal(self._key, key, encode_context("root", context))

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return open_record(self._key, wrapped, encode_context("root", context))


class Stored:
    """What outlives a process: the objects, and the index's rows by their id.

    While ``index_is_down`` is set the index refuses every write, and counts that in ``refusals``.
    """

    def __init__(self) -> None:
        self.objects = MemoryStore()
        self.rows: dict[str, dict[str, Any]] = {}
        self.index_is_down = False
        self.refusals = 0


class Fuse:
    """Kills its process at the write after ``writes_left`` more, if that is set."""

    def __init__(self) -> None:
        self.writes_left: int | None = None
        self.blown = False

    def write(self) -> None:
        if self.writes_left is not None:
            self.blown = self.blown or self.writes_left == 0
            self.writes_left -= 1
        if self.blown:
            raise Killed


class _Objects(Objects):
    def __init__(self, store: ObjectStore, fuse: Fuse) -> None:
        super().__init__(store)
        self._fuse = fuse

    async def put(self, path: str, data: bytes) -> None:
        self._fuse.write()
        await super().put(path, data)

    async def create(self, path: str, data: bytes) -> bool:
        self._fuse.write()
        return await super().create(path, data)

    async def put_stream(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        self._fuse.write()
        await super().put_stream(path, chunks)

    async def delete(self, path: str) -> None:
        self._fuse.write()
        await super().delete(path)


class _Index(Index):
    """Keeps and reads rows as Milvus does."""

    by_words = False

    def __init__(self, stored: Stored, fuse: Fuse) -> None:
        self._stored = stored
        self._fuse = fuse

    async def upsert(self, entries: Sequence[Entry]) -> None:
        self._write()
        self._stored.rows.update({entry.passage.id: dict(row_of(entry)) for entry in entries})

    async def delete(
        self, store_id: str, attachment_id: str | None = None, *, from_position: int | None = None
    ) -> None:
        self._write()
        for row in self._of(store_id, attachment_id):
            if row["position"] >= (from_position or 0):
                del self._stored.rows[row["id"]]

    async def search(
        self, store_id: str, question: Question, *, limit: int, attachment_ids: Sequence[str] | None, fresh: bool
    ) -> Found:
        rows = [
            row for row in self._of(store_id, None) if attachment_ids is None or row["attachment_id"] in attachment_ids
        ]
        nearest = []
        if question.dense is not None:
            vector = question.dense
            nearest += sorted(rows, key=lambda row: -float(np.dot(row["dense"], vector)))[:limit]
        nearest += [row for row in rows if row["id"] in question.ids]
        return Found(hits_of(store_id, nearest), is_all=len(rows) < limit)

    async def count(self, store_id: str, ids: Sequence[str]) -> int:
        return sum(row["id"] in ids for row in self._of(store_id, None))

    def _of(self, store_id: str, attachment_id: str | None) -> list[dict[str, Any]]:
        rows = [row for row in self._stored.rows.values() if row["store_id"] == store_id]
        return [row for row in rows if attachment_id in {None, row["attachment_id"]}]

    def _write(self) -> None:
        if self._stored.index_is_down:
            self._stored.refusals += 1
            raise Unavailable("The index is down.")
        self._fuse.write()


class _Embedder(EmbedderClient):
    def __init__(self) -> None: ...

    async def embed(self, texts: Sequence[str], *, bulk: bool = False) -> Embeddings:
        return Embeddings([fake_vector(text, _DIMENSIONS) for text in texts], _DIMENSIONS, len(texts))


class _Parser(Parser):
    """Each word is a passage."""

    def __init__(self) -> None: ...

    async def parse(
        self,
        content: AsyncIterator[bytes],
        *,
        name: str,
        max_tokens: int,
        overlap_tokens: int,
        turn: Interruption | None = None,
    ) -> Parsed:
        text = b"".join([part async for part in content]).decode()
        return Parsed(text, [Chunk(word.start(), word.end(), None, None) for word in re.finditer(r"\S+", text)])


class _Pieces(Chunker):
    """Every question is short enough."""

    def __init__(self) -> None: ...

    def pieces(self, text: str, *, most: int | None = None) -> list[str]:
        return [text]


class MemoryProcess:
    """The services of one process over what is stored."""

    def __init__(self, stored: Stored, root: MemoryRoot) -> None:
        self.stored, self.root = stored, root
        self.fuse = Fuse()
        self.objects = _Objects(stored.objects, self.fuse)
        keyring = Keyring("retriever", root, ObjectKeyStore(self.objects))
        self.records = records = SealedRecords(self.objects)
        self.index = index = _Index(stored, self.fuse)
        self.file_store = FileStore(self.objects, keyring, records)
        self.uses = uses = FileUses(self.objects, keyring)
        self.keys = keys = PassageKeyring(keyring)
        self.store = VectorStoreStore(self.objects, keyring, records)
        self.queue = JobQueue(self.objects, keyring, records, lease_seconds=LEASE_SECONDS)
        packs = Packs(self.objects, keyring)
        self.open_stores = OpenStores(packs, keyring, most_bytes=2**20)
        self.indexes = indexes = Indexes(index, packs, self.open_stores, keys, Rotations())
        purges = Purges(self.queue, indexes)
        self.words = words = Words(self.objects, keyring, most_bytes=10**9)
        self.due = Due(self.objects, keyring, records)
        self.files = FileService(self.file_store, uses, self.due, max_file_bytes=1000)
        uploads = UploadStore(self.objects, keyring, records)
        self.uploads = UploadService(uploads, self.files, self.due, max_file_bytes=1000)
        chunking = ChunkingPolicy(model_tokens=254, auto=Chunking(max_tokens=200, overlap_tokens=40))
        self.attachments = AttachmentService(self.store, self.files, uses, keys, self.queue, purges, chunking)
        self.batches = BatchService(self.store, self.attachments)
        self.expiries = expiries = Expiries(self.objects, keyring, records)
        self.stores = VectorStoreService(
            self.store, self.attachments, uses, purges, expiries, model="m", protection="standard"
        )
        self.end = ending_of(self.files, self.uploads, self.stores)
        self.pipeline = Pipeline(
            files=self.files,
            ingestions=IngestionService(self.store, uses, sealed_passages=SEALED_PASSAGES),
            keys=keys,
            parser=_Parser(),
            embedder=_Embedder(),
            indexes=indexes,
            rotations=Rotations(),
            words=words,
        )
        self.search = SearchService(
            stores=self.stores,
            attachments=self.attachments,
            keys=keys,
            embedder=_Embedder(),
            indexes=indexes,
            rotations=Rotations(),
            words=words,
            pieces=_Pieces(),
        )
        self.workers = IngestWorkers(self.queue, self.pipeline, workers=1, lease_seconds=LEASE_SECONDS)
        self.supervisor = Supervisor()

    async def upload(self, text: str, **fields: str) -> FileRecord:
        return await self.files.upload(TENANT, form_of(text, purpose="assistants", **fields))


def form_of(text: str, *, file_field: str = "file", **fields: str) -> MultipartUpload:
    """A form with a file and fields."""

    async def body() -> AsyncIterator[bytes]:
        for name, value in fields.items():
            yield f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        yield f'--b\r\ncontent-disposition: form-data; name="{file_field}"; filename="a.txt"\r\n\r\n'.encode()
        yield text.encode() + b"\r\n--b--\r\n"

    return MultipartUpload("multipart/form-data; boundary=b", body(), file_field=file_field)
