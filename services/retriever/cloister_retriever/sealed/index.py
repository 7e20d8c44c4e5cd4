"""The index of one sealed vector store: written in packs, searched in memory by the same two halves as every index.

Both halves look at every passage of the store, so what they propose is exact: one matrix product by meaning, and the
lists of the asked terms by words. `cloister_retriever.index.protocol` says what an index is.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from cloister_common.errors import Conflict
from cloister_common.vault import DataKey

from cloister_retriever.editions import Place
from cloister_retriever.index.passages import PassageOwner, passage_id
from cloister_retriever.index.protocol import Entry, Found, Question, SealedPassage
from cloister_retriever.index.rotation import Rotations, Vector
from cloister_retriever.keys import PassageKeyring, edition_keys
from cloister_retriever.sealed.block import Block
from cloister_retriever.sealed.memory import OpenStores
from cloister_retriever.sealed.pack import MOST_PASSAGES, encoded
from cloister_retriever.sealed.packs import Packs

__all__ = ["SealedIndex"]


class SealedIndex:
    """One edition of one store of one tenant, for one job or one search.

    What `upsert` took is durable when `count` has counted it: passages wait until they make a pack. A job that ends
    before writes them again, as it would after a crash.
    """

    by_words = True

    def __init__(
        self,
        packs: Packs,
        stores: OpenStores,
        keys: PassageKeyring,
        rotations: Rotations,
        tenant: str,
        place: Place,
        key: DataKey,
    ) -> None:
        self._packs = packs
        self._stores = stores
        self._keys = keys
        self._rotations = rotations
        self._tenant = tenant
        self._place = place
        self._key = key
        self._waiting: list[Entry] = []
        self._attachment_id: str | None = None
        """Whose passages are written."""

    async def upsert(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self._waiting and not _follows(self._waiting[-1], entry):
                await self._write()
            self._waiting.append(entry)
            self._attachment_id = entry.passage.attachment_id
            if len(self._waiting) == MOST_PASSAGES:
                await self._write()

    async def delete(
        self, store_id: str, attachment_id: str | None = None, *, from_position: int | None = None
    ) -> None:
        await self._packs.remove(self._tenant, store_id, attachment_id, from_position=from_position)
        self._stores.forget(self._tenant, self._place, attachment_id)

    async def count(self, store_id: str, ids: Sequence[str]) -> int:
        await self._write()
        asked = set(ids)
        found: set[str] = set()
        for name in await self._packs.list(self._tenant, store_id, self._attachment_id):
            keys = await self._keys.get(self._tenant, self._key, name.file_id, self._place.edition)
            owner = self._owner(name.file_id, name.attachment_id)
            if keys is not None:
                found.update(passage_id(keys, owner, position) for position in range(name.first, name.end))
        return len(asked & found)

    async def read(self, store_id: str, attachment_id: str, ids: Mapping[int, str]) -> list[SealedPassage]:
        blocks = await self._stores.blocks(self._tenant, self._place, self._key, fresh=True)
        return [block.hit(row).passage for block in blocks for row in block.rows(attachment_id, ids)]

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
        blocks = await self._stores.blocks(self._tenant, self._place, self._key, fresh=fresh)
        if not blocks:
            return Found([], is_all=True)
        wanted = None if attachment_ids is None else set(attachment_ids)
        return await asyncio.to_thread(self._found, blocks, question, limit, wanted, without)

    def _found(
        self,
        blocks: Sequence[Block],
        question: Question,
        limit: int,
        attachment_ids: Collection[str] | None,
        without: Collection[str],
    ) -> Found:
        seen = np.flatnonzero(np.concatenate([block.of(attachment_ids, without) for block in blocks]))
        rows: set[int] = set()
        is_all = True
        if question.dense is not None:
            query = self._rotations.back(edition_keys(self._key, self._place.edition).rotation, question.dense)
            if len(query) != blocks[0].vectors.shape[1]:
                raise Conflict(
                    f"The embedding model now gives {len(query)} numbers a vector, but this vector store was filled "
                    f"with {blocks[0].vectors.shape[1]}. Attach its files to a new one.",
                    code="embedding_model_changed",
                )
            scores = np.concatenate([block.vectors @ query for block in blocks])[seen]
            rows.update(seen[_best(scores, limit)].tolist())
            is_all = len(scores) < limit
        if question.terms is not None:
            scores = np.concatenate([block.by_words(question.terms) for block in blocks])[seen]
            best = [place for place in _best(scores, limit) if scores[place] > 0]
            rows.update(seen[best].tolist())
            is_all = is_all and (question.dense is not None or len(best) < limit)
        starts = np.cumsum([0, *(len(block) for block in blocks)])
        hits = []
        for row in rows:
            number = int(np.searchsorted(starts, row, side="right")) - 1
            hits.append(blocks[number].hit(row - int(starts[number])))
        return Found(hits, is_all=is_all)

    async def _write(self) -> None:
        """Makes a pack of what waits."""
        entries, self._waiting = self._waiting, []
        if not entries:
            return
        passage = entries[0].passage
        keys = await self._keys.get(self._tenant, self._key, passage.file_id, self._place.edition)
        if keys is None:
            return  # its file is gone, which the count shows
        owner = self._owner(passage.file_id, passage.attachment_id)
        data = await asyncio.to_thread(encoded, keys, owner, entries)
        await self._packs.write(owner, passage.position, len(entries), data)
        self._stores.note_filled(self._tenant, self._place)

    def _owner(self, file_id: str, attachment_id: str) -> PassageOwner:
        return PassageOwner(self._tenant, self._place.store_id, file_id, attachment_id, self._place.edition)


def _follows(before: Entry, entry: Entry) -> bool:
    return (
        entry.passage.attachment_id == before.passage.attachment_id
        and entry.passage.position == before.passage.position + 1
    )


def _best(scores: Vector, limit: int) -> list[int]:
    """The rows of the ``limit`` highest scores."""
    if len(scores) <= limit:
        return list(range(len(scores)))
    return [int(row) for row in np.argpartition(-scores, limit)[:limit]]
