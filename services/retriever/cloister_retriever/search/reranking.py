"""Putting the best passages in the order of a cross-encoder, which reads question and passage together.

It costs about as much as embedding the passages anew, so only the first ones of a search are given to it, and only
where the operator has named one. Their scores stay what they are, from meaning and words: a threshold means the same
with it and without it. Where it fails, or takes too long, the order stays too.
"""

import asyncio
from collections.abc import Sequence

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger
from cloister_common.wire.search import FoundPassage
from prometheus_client import Counter, Histogram

from cloister_retriever.settings import SearchSettings

__all__ = ["Reranker"]

log = get_logger(__name__)
_RERANKED = Counter(
    "cloister_search_reranked_total", "Searches that were to be reranked, by what came of it.", ["result"]
)
_SECONDS = Histogram(
    "cloister_search_rerank_seconds", "Seconds of a reranking.", buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
)

_QUERY_CHARACTERS = 400
"""About 100 tokens: query and passage share what a cross-encoder reads, mostly 512."""


class Reranker:
    """Asks the embedder's cross-encoder.

    Args:
        embedder: Has it.
        settings: Which one, of how many passages, how long.
    """

    def __init__(self, embedder: EmbedderClient, settings: SearchSettings) -> None:
        self._embedder = embedder
        self._settings = settings

    def candidates(self, count: int, ranker: str) -> int:
        """How many passages are wanted of a search for ``count`` results."""
        if self._settings.rerank_model is None or ranker == "none":
            return count
        return max(count, self._settings.rerank_candidates)

    async def ranked(
        self, queries: Sequence[str], passages: Sequence[FoundPassage], count: int, ranker: str
    ) -> list[FoundPassage]:
        """The ``count`` best of the passages.

        Of several queries the last one is taken: it is the one that leaves least out.
        """
        model = self._settings.rerank_model
        if model is None or ranker == "none" or len(passages) < 2:
            return list(passages[:count])
        texts = [_text(passage) for passage in passages]
        try:
            async with asyncio.timeout(self._settings.rerank_seconds):
                with _SECONDS.time():
                    order = await self._embedder.rerank(model, queries[-1][:_QUERY_CHARACTERS], texts)
        except (CloisterError, TimeoutError) as error:
            _RERANKED.labels("failed").inc()
            log.warning("search_not_reranked", model=model, reason=type(error).__name__)
            return list(passages[:count])
        places = [one.index for one in order]
        if sorted(places) != list(range(len(passages))):
            _RERANKED.labels("failed").inc()
            log.warning("search_not_reranked", model=model, reason="malformed")
            return list(passages[:count])
        _RERANKED.labels("reranked").inc()
        return [passages[place] for place in places[:count]]


def _text(passage: FoundPassage) -> str:
    """What the cross-encoder reads of a passage: its headings too, as its vector has them."""
    section = passage.passage.section
    return passage.text if section is None else f"{section}\n{passage.text}"
