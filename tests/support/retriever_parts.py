"""What stands in for the parts of a retriever in memory: what is stored, the index, the embedder, the parser."""

import asyncio
import io
import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
from cloister_common.clients.embedder import EmbedderClient, Embeddings, Ranked
from cloister_common.errors import Unavailable
from cloister_common.supervisor import Supervisor
from cloister_common.testing.embedder import fake_vector
from cloister_common.vault import encode_context, open_record, seal
from cloister_common.wire.embeddings import InputType
from cloister_common.wire.models import model_object
from cloister_retriever.index.protocol import Entry, Found, Index, Question, SealedPassage
from cloister_retriever.index.rows import hits_of, row_of
from cloister_retriever.parsing.child import answer_of, chunker_of
from cloister_retriever.parsing.chunking import Chunk, Chunker
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.messages import Answer, PictureLimits, Request
from cloister_retriever.parsing.parser import Interruption, Parsed, Parser
from cloister_retriever.storage.objects import Objects
from obstore.store import MemoryStore, ObjectStore
from PIL import Image

from tests.support.models import minilm_folder

__all__ = [
    "MODEL",
    "OTHER_MODEL",
    "Fuse",
    "Killed",
    "MemoryEmbedder",
    "MemoryIndex",
    "MemoryObjects",
    "MemoryParser",
    "MemoryPieces",
    "MemoryRoot",
    "MortalSupervisor",
    "ReadsHere",
    "SeeingEmbedder",
    "Stored",
    "read_here",
]

_DIMENSIONS = 8
MODEL, OTHER_MODEL = "m", "another"


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


class MortalSupervisor(Supervisor):
    """Of a process that may be `Killed`: nobody asks its tasks what became of them."""

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = super()._start(name, work)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return task


class MemoryObjects(Objects):
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


class MemoryIndex(Index):
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
        self,
        store_id: str,
        question: Question,
        *,
        limit: int,
        attachment_ids: Sequence[str] | None,
        fresh: bool,
        without: Collection[str] = (),
    ) -> Found:
        rows = [
            row
            for row in self._of(store_id, None)
            if (attachment_ids is None or row["attachment_id"] in attachment_ids)
            and row["attachment_id"] not in without
        ]
        nearest = []
        if question.dense is not None:
            vector = question.dense
            nearest += sorted(rows, key=lambda row: -float(np.dot(row["dense"], vector)))[:limit]
        nearest += [row for row in rows if row["id"] in question.ids]
        return Found(hits_of(store_id, nearest), is_all=len(rows) < limit)

    async def read(self, store_id: str, attachment_id: str, ids: Mapping[int, str]) -> list[SealedPassage]:
        names = set(ids.values())
        return [
            hit.passage for hit in hits_of(store_id, [one for one in self._of(store_id, None) if one["id"] in names])
        ]

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


class MemoryEmbedder(EmbedderClient):
    """Its models have vectors of other lengths.

    Attributes:
        served: Which of them are there now.
        poor: Those that take all texts for the same.
        calls: Model, input type and texts of each call.
        reranked: Model, query and texts of each call to its cross-encoder.
        rerank_fails: What such a call raises, if it does.
    """

    def __init__(self) -> None:
        self.served = {MODEL, OTHER_MODEL}
        self.poor: set[str] = set()
        self.reranked: list[tuple[str, str, list[str]]] = []
        self.rerank_fails: Exception | None = None
        self.calls: list[tuple[str | None, InputType | None, list[str]]] = []

    async def embed(
        self,
        texts: Sequence[str],
        *,
        bulk: bool = False,
        input_type: InputType | None = None,
        model: str | None = None,
    ) -> Embeddings:
        self.calls.append((model, input_type, list(texts)))
        dimensions = _DIMENSIONS if model in {None, MODEL} else 2 * _DIMENSIONS
        seen = ["the same" if model in self.poor else text for text in texts]
        return Embeddings([fake_vector(text, dimensions) for text in seen], dimensions, len(texts))

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], *, top_n: int | None = None, bulk: bool = False
    ) -> list[Ranked]:
        """The shortest first."""
        self.reranked.append((model, query, list(documents)))
        if self.rerank_fails is not None:
            raise self.rerank_fails
        order = sorted(range(len(documents)), key=lambda place: len(documents[place]))
        return [Ranked(place, 1 / (number + 1)) for number, place in enumerate(order)]

    async def models(self, **_: Any) -> list[dict[str, Any]]:
        return [model_object(name, "text", dimensions=None, max_tokens=254, created=0) for name in self.served]


_SEEN = ("red", "green", "blue")


class SeeingEmbedder(MemoryEmbedder):
    """Besides sees which colour a picture has most of, in the same space as the names of colours in a text."""

    async def embed_images(self, model: str, images: Sequence[bytes], *, bulk: bool = False) -> Embeddings:
        return _colours([_mean(image) for image in images])

    async def embed_for_images(self, model: str, texts: Sequence[str]) -> Embeddings:
        return _colours([[float(colour in text.lower()) for colour in _SEEN] for text in texts])


def _mean(image: bytes) -> list[float]:
    with Image.open(io.BytesIO(image)) as opened:
        pixels = np.asarray(opened.convert("RGB"), np.float32).reshape(-1, 3) / 255
    mean = pixels.mean(axis=0)
    return [float(value) for value in mean - mean.min()]


def _colours(rows: Sequence[Sequence[float]]) -> Embeddings:
    padded = np.array([[*row, 0.05] for row in rows], "<f4")
    unit = padded / np.linalg.norm(padded, axis=1, keepdims=True)
    return Embeddings([row.tobytes() for row in unit], 4, len(rows))


class ReadsHere(Parser):
    """The real parser without its process."""

    def __init__(self, *, by_sight: bool) -> None:
        self._by_sight = by_sight

    def warm(self) -> None: ...

    async def parse(
        self,
        content: AsyncIterator[bytes],
        *,
        name: str,
        max_tokens: int,
        overlap_tokens: int,
        turn: Interruption | None = None,
        on_page: Callable[[int, int], None] = lambda done, total: None,
        description: str | None = None,
    ) -> Parsed:
        data = b"".join([part async for part in content])
        return read_here(data, name, by_sight=self._by_sight, description=description)


def read_here(
    content: bytes,
    name: str,
    *,
    by_sight: bool = False,
    description: str | None = None,
    limits: Mapping[str, int] | None = None,
) -> Parsed:
    """A file as the parser's process reads it. Raises `UnreadableFile`."""
    request = Request(
        name=name,
        tokenizer_path=minilm_folder(),
        max_tokens=200,
        overlap_tokens=40,
        memory_bytes=2**30,
        cpu_seconds=60,
        max_text_bytes=2**24,
        pictures=PictureLimits(
            **{"most": 50, "pixels": 4_000_000, "total_bytes": 2**24, "seconds": 60, **(limits or {})}
        ),
        by_sight=by_sight,
        description=description,
    )
    answer = answer_of(request, chunker_of(minilm_folder(), 200, 40, 0), lambda: content)
    if answer.error is not None:
        raise UnreadableFile(answer.error.code, answer.error.message)
    answer = Answer.model_validate_json(answer.model_dump_json(exclude_defaults=True))
    return Parsed(answer.text, answer.chunks, answer.pictures, answer.is_picture, answer.notes)


class MemoryParser(Parser):
    """Each word is a passage."""

    def __init__(self) -> None: ...

    def warm(self) -> None: ...

    async def parse(
        self,
        content: AsyncIterator[bytes],
        *,
        name: str,
        max_tokens: int,
        overlap_tokens: int,
        turn: Interruption | None = None,
        on_page: Callable[[int, int], None] = lambda done, total: None,
        description: str | None = None,
    ) -> Parsed:
        text = b"".join([part async for part in content]).decode()
        return Parsed(text, [Chunk(word.start(), word.end(), None, None) for word in re.finditer(r"\S+", text)])


class MemoryPieces(Chunker):
    """Every question is short enough."""

    def __init__(self) -> None: ...

    def pieces(self, text: str, *, most: int | None = None) -> list[str]:
        return [text]
