"""Search: ask the index by meaning and by words, open what it proposes, score it exactly.

What the index returns is a proposal. Each candidate must belong to a file that is attached and completed now, must open
under the keys and context of this tenant, store, file and position, and is scored on its own exact vector and terms.
One that does not open was tampered with or misplaced: it is dropped, counted and logged, never served.
"""

import asyncio
import time
from collections.abc import Sequence, Set
from typing import NamedTuple

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import Conflict, InvalidRequest, NotFound, Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import VaultError
from cloister_common.wire.filters import Comparison, Compound, check_depth
from cloister_common.wire.search import FoundPassage, SearchRequest
from prometheus_client import Histogram

from cloister_retriever.index.entries import vectors_of
from cloister_retriever.index.passages import PassageOwner, open_vector, passage_id
from cloister_retriever.index.protocol import DROPPED, Found
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.keys import PassageKeyring, PassageKeys, edition_keys
from cloister_retriever.parsing.chunking import Chunker
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.search.asking import Asked, Piece, asked_of
from cloister_retriever.search.beside import with_pictures
from cloister_retriever.search.fusion import Weights
from cloister_retriever.search.reranking import Reranker
from cloister_retriever.search.results import Candidate, results_of
from cloister_retriever.search.scope import Scope, Scopes
from cloister_retriever.search.sights import Sight, Sights, merged
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.filters import matches
from cloister_retriever.vector_stores.service import OpenStore, VectorStoreService
from cloister_retriever.vector_stores.terms import Words

__all__ = ["SearchService"]

log = get_logger(__name__)
_SECONDS = Histogram(
    "cloister_search_seconds", "Seconds of a search by part.", ["part"], buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1)
)

_CANDIDATES_A_RESULT = 4
_LEAST_CANDIDATES = 50
_MOST_CANDIDATES = 800
"""Of one half. So far it is gone down where passages of the same text crowd out others."""

_FILES_A_FILTER = 1000
"""Ids in one filter expression: about 60 kB."""

_MOST_PIECES = 32
_FRESH_SECONDS = 10.0
"""Milvus's bounded staleness is 5 s by default; a store that grew within twice that is searched with a wait for every
acknowledged write, so that a file whose status is completed is found."""


class _Within(NamedTuple):
    """What is searched of a store.

    Attributes:
        scope: The attachments that a search is about.
        visible: All those that the caller sees.
        hidden: The files that it does not.
        grown_at: When the store last grew.
    """

    scope: Scope
    visible: Scope
    hidden: Set[str]
    grown_at: float


class SearchService:
    """Searches vector stores."""

    def __init__(
        self,
        *,
        stores: VectorStoreService,
        attachments: AttachmentService,
        keys: PassageKeyring,
        embedder: EmbedderClient,
        indexes: Indexes,
        rotations: Rotations,
        words: Words,
        pieces: Chunker,
        reranker: Reranker,
        sights: Sights,
    ) -> None:
        self._stores = stores
        self._attachments = attachments
        self._keys = keys
        self._embedder = embedder
        self._indexes = indexes
        self._rotations = rotations
        self._words = words
        self._pieces = pieces
        self._reranker = reranker
        self._sights = sights
        self._scopes = Scopes(attachments)

    async def search(
        self,
        tenant: str,
        store_ids: Sequence[str],
        request: SearchRequest,
        *,
        hidden: Set[str] = frozenset(),
        param: str | None = None,
    ) -> list[FoundPassage]:
        """The best passages of all the stores, best first, each text once. `search.fusion` says what scores are, and
        `search.reranking` who else may put them in order.

        Passages of files that are ``hidden`` from the caller are not among them, and were not ranked with them.

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
        return await self.search_opened(tenant, opened, request, hidden=hidden)

    async def search_opened(
        self, tenant: str, opened: Sequence[OpenStore], request: SearchRequest, *, hidden: Set[str] = frozenset()
    ) -> list[FoundPassage]:
        """The same in the editions that were opened."""
        with _SECONDS.labels("embed").time():
            pieces, sights = await asyncio.gather(
                self._embed(request, {store.edition.model for store in opened}), self._sights.asked(tenant, request)
            )
        with _SECONDS.labels("index").time():
            ranker = "auto" if request.ranking_options is None else request.ranking_options.ranker
            count = self._reranker.candidates(request.max_num_results, ranker)
            limit = max(_LEAST_CANDIDATES, _CANDIDATES_A_RESULT * count)
            while True:
                parts = await asyncio.gather(
                    *(
                        self._search_store(tenant, store, pieces[store.edition.model], sights, request, hidden, limit)
                        for store in opened
                    )
                )
                best = sorted((one for part in parts for one in part), key=lambda one: (-one.score, one.sealed.id))
                results = await asyncio.to_thread(results_of, best, count)
                is_short = len(results.passages) < request.max_num_results and results.repeated
                if not is_short or limit >= _MOST_CANDIDATES or len(best) < limit:
                    break
                limit *= 4
        ranked = await self._reranker.ranked(request.queries, results.passages, request.max_num_results, ranker)
        return await with_pictures(tenant, self._attachments, opened, ranked, hidden)

    async def _embed(self, request: SearchRequest, models: Set[str]) -> dict[str, list[Piece]]:
        """The pieces of the queries, with their vectors by each of the models; none where only pictures are asked
        with."""
        pieces = await asyncio.to_thread(self._cut, request.queries)
        if not pieces and request.pictures:
            return {model: [] for model in models}
        if not pieces:
            raise InvalidRequest("'query' is empty.", param="query")
        if len(pieces) > _MOST_PIECES:
            raise InvalidRequest(
                "'query' is longer than can be searched at once. Search for its essence.", param="query"
            )

        async def vectors(model: str) -> list[Piece]:
            exact = await vectors_of(self._embedder, pieces, model=model, input_type="query")
            return [Piece(*of) for of in zip(pieces, exact, strict=True)]

        try:
            return dict(zip(models, await asyncio.gather(*map(vectors, models)), strict=True))
        except NotFound as error:
            raise Conflict(
                "The embedding model of this vector store is not served any more. Embed the store anew: "
                "POST /cloister/v1/vector_stores/{id}/reembed.",
                code="embedding_model_changed",
            ) from error
        except Unavailable as error:
            raise Unavailable(
                "Documents cannot be searched now: the embedding model does not answer. Try again in a moment.",
                code="embedder_unavailable",
                retry_after=error.retry_after,
            ) from error

    def _cut(self, queries: Sequence[str]) -> list[str]:
        """The pieces that are searched for. Where they are too many it is not found out how many."""
        pieces: list[str] = []
        for query in queries:
            pieces += [piece for piece in self._pieces.pieces(query, most=_MOST_PIECES + 1) if piece.strip()]
            if len(pieces) > _MOST_PIECES:
                break
        return pieces

    async def _search_store(
        self,
        tenant: str,
        store: OpenStore,
        pieces: Sequence[Piece],
        sights: Sequence[Sight],
        request: SearchRequest,
        hidden: Set[str],
        limit: int,
    ) -> list[Candidate]:
        grown_at = await self._stores.grown_at(tenant, store)
        if grown_at is None:
            return []
        scope = visible = await self._scopes.of(tenant, store.record.id, store.key, hidden, grown_at=grown_at)
        if request.filters is not None:
            scope = Scope(only=await self._served(tenant, store, hidden, request.filters))
        fresh = time.time() - grown_at < _FRESH_SECONDS
        by_sight, by_words = await asyncio.gather(
            self._sights.search(tenant, store, sights, scope, hidden, limit=limit, fresh=fresh),
            self._search_passages(
                tenant, store, pieces, request, _Within(scope, visible, hidden, grown_at), limit=limit, fresh=fresh
            ),
        )
        return [candidate for candidate in merged([*by_words, *by_sight]) if candidate.score >= request.threshold]

    async def _search_passages(
        self,
        tenant: str,
        store: OpenStore,
        pieces: Sequence[Piece],
        request: SearchRequest,
        within: "_Within",
        *,
        limit: int,
        fresh: bool,
    ) -> list[Candidate]:
        """Candidates by meaning and by words; none if nothing is asked in words."""
        if not pieces:
            return []
        scope, visible, hidden, grown_at = within
        words = await self._words.of(tenant, store.place, store.key, grown_at)
        asked = await asyncio.to_thread(
            asked_of,
            pieces,
            words,
            visible,
            Weights() if request.hybrid is None else Weights(*request.hybrid),
            edition_keys(store.key, store.edition.number),
            self._rotations,
        )
        candidates, is_all = await self._proposed(tenant, store, asked, scope, hidden, limit=limit, fresh=fresh)
        if request.filters is None and not is_all and len(candidates) < request.max_num_results:
            # The nearest are of files that are being read, or wait to be removed: ask for those of the others.
            scope = Scope(only=await self._served(tenant, store, hidden))
            candidates, _ = await self._proposed(tenant, store, asked, scope, hidden, limit=limit, fresh=fresh)
        return candidates

    async def _served(
        self, tenant: str, store: OpenStore, hidden: Set[str], filters: Comparison | Compound | None = None
    ) -> list[str]:
        """The attachments whose passages may be served, and whose attributes pass."""
        files = await self._attachments.list(tenant, store.record.id, store.key)
        return [
            file.record.id
            for file in files
            if file.status == "completed"
            and file.record.file_id not in hidden
            and (filters is None or matches(filters, file.record.attributes))
        ]

    async def _proposed(
        self,
        tenant: str,
        store: OpenStore,
        asked: Asked,
        scope: Scope,
        hidden: Set[str],
        *,
        limit: int,
        fresh: bool,
    ) -> tuple[list[Candidate], bool]:
        """Candidates of the attachments of ``scope``; and whether there are no more."""
        protections = await self._stores.protections(tenant, store)
        indexes = [
            self._indexes.of(tenant, store.record.id, store.key, protection, store.edition)
            for protection in protections
        ]
        if scope.only is None:
            filters: list[list[str] | None] = [None]
        else:
            firsts = range(0, len(scope.only), _FILES_A_FILTER)
            filters = [scope.only[first : first + _FILES_A_FILTER] for first in firsts]
        parts = await asyncio.gather(
            *(
                index.search(
                    store.place.name,
                    question,
                    limit=limit,
                    attachment_ids=some,
                    fresh=fresh,
                    without=scope.without,
                )
                for index in indexes
                for some in filters
                for question in asked.questions(
                    by_words=index.by_words, limit=limit, attachment_ids=some, without=scope.without
                )
            )
        )
        return await self._open(tenant, store, asked, parts, hidden), all(found.is_all for found in parts)

    async def _open(
        self, tenant: str, store: OpenStore, asked: Asked, parts: Sequence[Found], hidden: Set[str]
    ) -> list[Candidate]:
        """The hits that may be served, with exact scores."""
        hits = {hit.passage.id: hit for found in parts for hit in found.hits}
        # Looked at again here: what an index proposes is not trusted with who may see it either.
        proposed = [hit for hit in hits.values() if hit.passage.file_id not in hidden]
        file_ids = sorted({hit.passage.file_id for hit in proposed})
        attached = await self._attachments.get_many(tenant, store.record.id, store.key, file_ids)
        keys: dict[str, PassageKeys] = {}
        for file_id in attached:
            found_keys = await self._keys.get(tenant, store.key, file_id, store.edition.number)
            if found_keys is not None:
                keys[file_id] = found_keys

        def score() -> list[Candidate]:
            candidates = []
            for hit in proposed:
                sealed = hit.passage
                found = attached.get(sealed.file_id)
                if found is None or found.status != "completed" or found.record.id != sealed.attachment_id:
                    # Detached, still being read, or of an earlier attachment: the clean-up has not come to it yet.
                    DROPPED.labels("not_current").inc()
                    continue
                owner = PassageOwner(
                    tenant, store.record.id, sealed.file_id, sealed.attachment_id, store.edition.number
                )
                try:
                    if sealed.id != passage_id(keys[sealed.file_id], owner, sealed.position):
                        # It has a passage's place, text and vector, but that passage has another id.
                        DROPPED.labels("copied").inc()
                        log.error("passage_was_copied", store=store.record.id, passage=sealed.id)
                        continue
                    exact = open_vector(keys[sealed.file_id], owner, sealed) if hit.exact is None else hit.exact
                except (VaultError, KeyError):
                    DROPPED.labels("did_not_open").inc()
                    log.error("passage_did_not_open", store=store.record.id, passage=sealed.id)
                    continue
                candidates.append(Candidate(asked.score(exact, hit), sealed, found, keys[sealed.file_id], owner))
            return candidates

        return await asyncio.to_thread(score)
