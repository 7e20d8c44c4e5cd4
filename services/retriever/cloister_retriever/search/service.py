"""Search: rotate the question, take candidates from the index, open them, score them exactly.

What the index returns is a proposal. Each candidate must belong to a file that is attached and completed now, must open
under the keys and context of this tenant, store, file and position, and is scored on its own exact vector. One that
does not open was tampered with or misplaced: it is dropped, counted and logged, never served.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import InvalidRequest, Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import VaultError
from cloister_common.wire.filters import Comparison, Compound, check_depth
from cloister_common.wire.search import FoundPassage, PassagePlace, SearchRequest
from prometheus_client import Histogram

from cloister_retriever.index.passages import PassageOwner, open_passage, open_vector, passage_id
from cloister_retriever.index.protocol import DROPPED, Found, Index, SealedPassage
from cloister_retriever.index.rotation import Rotations, Vector, normalised
from cloister_retriever.keys import PassageKeyring, PassageKeys
from cloister_retriever.parsing.chunking import Chunker
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.filters import matches
from cloister_retriever.vector_stores.records import Attached
from cloister_retriever.vector_stores.service import OpenStore, VectorStoreService

__all__ = ["SearchService"]

log = get_logger(__name__)
_SECONDS = Histogram(
    "cloister_search_seconds", "Seconds of a search by part.", ["part"], buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1)
)

_CANDIDATES_A_RESULT = 4
_LEAST_CANDIDATES = 50
_FILES_A_FILTER = 1000
"""Ids in one filter expression: about 60 kB."""

_MOST_PIECES = 32
_FRESH_SECONDS = 10.0
"""Milvus's bounded staleness is 5 s by default; a store that grew within twice that is searched with a wait for every
acknowledged write, so that a file whose status is completed is found."""


class _Candidate(NamedTuple):
    """A hit that opened: its exact score, and what is needed to open its text."""

    score: float
    sealed: SealedPassage
    attached: Attached
    keys: PassageKeys
    owner: PassageOwner


class SearchService:
    """Searches vector stores."""

    def __init__(
        self,
        *,
        stores: VectorStoreService,
        attachments: AttachmentService,
        keys: PassageKeyring,
        embedder: EmbedderClient,
        index: Index,
        rotations: Rotations,
        pieces: Chunker,
    ) -> None:
        self._stores = stores
        self._attachments = attachments
        self._keys = keys
        self._embedder = embedder
        self._index = index
        self._rotations = rotations
        self._pieces = pieces

    async def search(
        self, tenant: str, store_ids: Sequence[str], request: SearchRequest, *, param: str | None = None
    ) -> list[FoundPassage]:
        """The best passages of all the stores, best first. Scores are cosines of exact vectors, 0 where that is less.

        With several queries, or a query longer than the model reads (which is searched in pieces), a passage has its
        best score.

        Raises:
            NotFound: A store is unknown, or another tenant's.
            Conflict: A store has expired or was made with another model.
            InvalidRequest: The filter is too large or a query too long.
            Unavailable: Embedder or index do not answer.
        """
        request.check()
        if request.filters is not None:
            check_depth(request.filters)
        opened = [await self._stores.open(tenant, store_id, param=param) for store_id in dict.fromkeys(store_ids)]
        with _SECONDS.labels("embed").time():
            queries = await self._embed(request.queries)
        with _SECONDS.labels("index").time():
            found = await asyncio.gather(*(self._search_store(tenant, store, queries, request) for store in opened))
        best = sorted((one for part in found for one in part), key=lambda one: (-one.score, one.sealed.id))
        return await asyncio.to_thread(_results, best, request.max_num_results)

    async def _embed(self, queries: Sequence[str]) -> Vector:
        pieces = await asyncio.to_thread(self._cut, queries)
        if not pieces:
            raise InvalidRequest("'query' is empty.", param="query")
        if len(pieces) > _MOST_PIECES:
            raise InvalidRequest(
                "'query' is longer than can be searched at once. Search for its essence.", param="query"
            )
        try:
            embedded = await self._embedder.embed(pieces, input_type="query")
        except Unavailable as error:
            raise Unavailable(
                "Documents cannot be searched now: the embedding model does not answer. Try again in a moment.",
                code="embedder_unavailable",
                retry_after=error.retry_after,
            ) from error
        return normalised(np.frombuffer(b"".join(embedded.vectors), dtype="<f4").reshape(len(pieces), -1))

    def _cut(self, queries: Sequence[str]) -> list[str]:
        """The pieces that are searched for. Where they are too many it is not found out how many."""
        pieces: list[str] = []
        for query in queries:
            pieces += [piece for piece in self._pieces.pieces(query, most=_MOST_PIECES + 1) if piece.strip()]
            if len(pieces) > _MOST_PIECES:
                break
        return pieces

    async def _search_store(
        self, tenant: str, store: OpenStore, queries: Vector, request: SearchRequest
    ) -> list[_Candidate]:
        wanted = None if request.filters is None else await self._served(tenant, store, request.filters)
        if wanted == []:
            return []
        grown_at = await self._stores.grown_at(tenant, store)
        if grown_at is None:
            return []
        fresh = time.time() - grown_at < _FRESH_SECONDS
        rotated = await asyncio.to_thread(self._rotations.rotate, store.key.subkey("rotation"), queries)
        found = await asyncio.gather(
            *(self._nearest(tenant, store, queries, query, wanted, request, fresh=fresh) for query in rotated)
        )
        best: dict[str, _Candidate] = {}
        for candidate in (one for part in found for one in part):
            known = best.get(candidate.sealed.id)
            if known is None or candidate.score > known.score:
                best[candidate.sealed.id] = candidate
        return [candidate for candidate in best.values() if candidate.score >= request.threshold]

    async def _served(self, tenant: str, store: OpenStore, filters: Comparison | Compound | None = None) -> list[str]:
        """The attachments whose passages may be served, and whose attributes pass."""
        files = await self._attachments.list(tenant, store.record.id, store.key)
        return [
            file.record.id
            for file in files
            if file.status == "completed" and (filters is None or matches(filters, file.record.attributes))
        ]

    async def _nearest(
        self,
        tenant: str,
        store: OpenStore,
        queries: Vector,
        query: Vector,
        wanted: list[str] | None,
        request: SearchRequest,
        *,
        fresh: bool,
    ) -> list[_Candidate]:
        """Candidates for one query, of the attachments ``wanted`` or of all."""
        limit = max(_LEAST_CANDIDATES, _CANDIDATES_A_RESULT * request.max_num_results)
        if wanted is None:
            found = await self._index.search(store.record.id, query, limit=limit, attachment_ids=None, fresh=fresh)
            candidates = await self._open(tenant, store, queries, [found])
            if len(candidates) >= request.max_num_results or found.is_all:
                return candidates
            # The nearest are of files that are being read, or wait to be removed: ask for those of the others.
            wanted = await self._served(tenant, store)
        parts = await asyncio.gather(
            *(
                self._index.search(
                    store.record.id,
                    query,
                    limit=limit,
                    attachment_ids=wanted[first : first + _FILES_A_FILTER],
                    fresh=fresh,
                )
                for first in range(0, len(wanted), _FILES_A_FILTER)
            )
        )
        return await self._open(tenant, store, queries, parts)

    async def _open(self, tenant: str, store: OpenStore, queries: Vector, parts: Sequence[Found]) -> list[_Candidate]:
        """The hits that may be served, with exact scores against the best of ``queries``."""
        proposed = [hit.passage for found in parts for hit in found.hits]
        file_ids = sorted({sealed.file_id for sealed in proposed})
        attached = await self._attachments.get_many(tenant, store.record.id, store.key, file_ids)
        keys: dict[str, PassageKeys] = {}
        for file_id in attached:
            found_keys = await self._keys.get(tenant, store.key, file_id)
            if found_keys is not None:
                keys[file_id] = found_keys

        def score() -> list[_Candidate]:
            candidates = []
            for sealed in proposed:
                found = attached.get(sealed.file_id)
                if found is None or found.status != "completed" or found.record.id != sealed.attachment_id:
                    # Detached, still being read, or of an earlier attachment: the clean-up has not come to it yet.
                    DROPPED.labels("not_current").inc()
                    continue
                owner = PassageOwner(tenant, store.record.id, sealed.file_id, sealed.attachment_id)
                try:
                    if sealed.id != passage_id(keys[sealed.file_id], owner, sealed.position):
                        # It has a passage's place, text and vector, but that passage has another id.
                        DROPPED.labels("copied").inc()
                        log.error("passage_was_copied", store=store.record.id, passage=sealed.id)
                        continue
                    exact = open_vector(keys[sealed.file_id], owner, sealed)
                except (VaultError, KeyError):
                    DROPPED.labels("did_not_open").inc()
                    log.error("passage_did_not_open", store=store.record.id, passage=sealed.id)
                    continue
                candidates.append(
                    _Candidate(float(np.max(queries @ exact)), sealed, found, keys[sealed.file_id], owner)
                )
            return candidates

        return await asyncio.to_thread(score)


def _results(best: Sequence[_Candidate], count: int) -> list[FoundPassage]:
    results: list[FoundPassage] = []
    for candidate in best:
        if len(results) == count:
            break
        try:
            passage = open_passage(candidate.keys, candidate.owner, candidate.sealed)
        except VaultError:
            DROPPED.labels("did_not_open").inc()
            log.error("passage_did_not_open", store=candidate.owner.store_id, passage=candidate.sealed.id)
            continue
        results.append(
            FoundPassage(
                vector_store_id=candidate.owner.store_id,
                file_id=candidate.owner.file_id,
                filename=candidate.attached.record.file_name,
                # OpenAI's range. Rounding takes the cosine of a text with itself beyond 1.
                score=min(max(candidate.score, 0.0), 1.0),
                attributes=candidate.attached.record.attributes or {},
                text=passage.text,
                passage=PassagePlace(
                    id=candidate.sealed.id,
                    index=passage.position,
                    page=passage.page,
                    section=passage.section,
                    start=passage.start,
                    end=passage.end,
                ),
            )
        )
    return results
