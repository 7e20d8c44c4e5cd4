"""What the gateway asks of retriever and embedder: passages for a turn, vectors for attribution."""

from array import array
from collections.abc import Sequence
from typing import Any, Literal

from cloister_common.caller import Caller
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import NotFound
from pydantic import BaseModel, ConfigDict

from cloister_gateway.grounding.excerpts import Coverage, Passage, Shown, is_attached
from cloister_gateway.grounding.pictures import pictures_of
from cloister_gateway.wire.items import Message, text_of

__all__ = ["DEFAULT_RESULTS", "FileSearch", "Retrieval"]

_SHORT_CHARACTERS = 600
"""Earlier turns are added while all of them together are no longer than this, about 150 tokens."""
_QUERY_CHARACTERS = 2_400
"""As much of a long message as the retriever searches for, in pieces; the beginning usually says what is asked."""
_USER_TURNS = 3
"""The last user turns that make up the second query. The newest alone finds what it names, all three together what a
follow-up leaves out; a passage counts by the better of both (nDCG@10 0.916 on mtrag-mini, against 0.834 and 0.860)."""
DEFAULT_RESULTS = 5
"""The most passages of a turn whose caller does not say how many."""


class FileSearch(BaseModel):
    """Where a turn searches, and how: OpenAI's tool ``file_search``, as it is kept with what was asked."""

    model_config = ConfigDict(frozen=True)

    type: Literal["file_search"] = "file_search"
    vector_store_ids: list[str]
    max_num_results: int | None = None
    filters: dict[str, Any] | None = None
    ranking_options: dict[str, Any] | None = None
    rewrite_query: bool | None = None


class Retrieval:
    """Searches and embeds on behalf of runs.

    Args:
        retriever: Searches.
        embedder: Embeds for attribution, which goes without vectors if it has no model of its own.
        least_score: Of a passage that may answer a question.
        most_pictures: Of one turn.
    """

    def __init__(
        self, retriever: RetrieverClient, embedder: EmbedderClient, *, least_score: float = 0.0, most_pictures: int = 0
    ) -> None:
        self._retriever = retriever
        self._embedder = embedder
        self._least_score = least_score
        self._most_pictures = most_pictures

    @staticmethod
    def queries(messages: Sequence[Message]) -> list[str]:
        """The queries for a turn: the newest user message, and the last ones together where they are short.

        None at all if no user has said anything.
        """
        users = (text_of(message) for message in messages if message["role"] == "user")
        said = [text for text in users if not is_attached(text)][-_USER_TURNS:]
        newest = said[-1:]
        while len(said) > 1 and sum(map(len, said)) > _SHORT_CHARACTERS:
            said.pop(0)
        queries = ("\n".join(turns)[:_QUERY_CHARACTERS] for turns in (newest, said))
        return list(dict.fromkeys(query for query in queries if query.strip()))

    async def check(self, tenant: str, tools: Sequence[FileSearch], *, first: int) -> None:
        """Looks whether the tenant has the stores of ``tools``, of which the request has the first at place ``first``.

        Raises:
            NotFound: It has not; with their place in the request.
        """
        for place, tool in enumerate(tools, start=first):
            try:
                await self._retriever.check_stores(tenant, tool.vector_store_ids)
            except NotFound as error:
                raise NotFound(error.message, param=f"tools[{place}].vector_store_ids") from error

    async def search(
        self, tenant: str, tool: FileSearch, queries: list[str], caller: Caller, *, seeing: bool = False
    ) -> tuple[list[Passage], Coverage]:
        """The best passages over all queries that are near enough, of files that ``caller`` sees, best first; and what
        that says of the question. A picture that nothing is said of is among them where the model is ``seeing``.

        How near that is the request says, or the operator. Without a query there is nothing to search for, and nothing
        to say.
        """
        if not queries:
            return [], "found"
        found = await self._retriever.search(
            tenant,
            tool.vector_store_ids,
            queries,
            max_num_results=tool.max_num_results or DEFAULT_RESULTS,
            filters=tool.filters,
            ranking_options=tool.ranking_options,
            caller=caller,
        )
        own = (tool.ranking_options or {}).get("score_threshold")
        passages = [
            Passage(
                file_id=passage.file_id,
                filename=passage.filename,
                score=passage.score,
                text=passage.text,
                attributes=passage.attributes,
                page=passage.passage.page,
                section=passage.passage.section,
                image=passage.image,
            )
            for passage in found
            # A picture that nothing is said of has no text: it is of use to who can look at it.
            if passage.text or (seeing and self._most_pictures and passage.image is not None)
            if own is not None or passage.score >= self._least_score
        ]
        if passages:
            return passages, "found"
        # Where something was asked of the passages, none of them says nothing of how many there are.
        limited = found or own or tool.filters
        return [], "not_in_documents" if limited else "no_documents"

    async def pictures(
        self, tenant: str, passages: Sequence[Passage], caller: Caller, *, images: int, characters: int
    ) -> list[Shown]:
        """The pictures of ``passages`` that ``caller`` may see, of the best first: at most ``images``, and of
        ``characters`` in all as data URLs."""
        most = min(images, self._most_pictures)
        return await pictures_of(self._retriever, tenant, passages, caller, most=most, characters=characters)

    @property
    def can_embed(self) -> bool:
        """Whether there are vectors for attribution."""
        return self._embedder.model is not None

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """A unit vector for each text."""
        return [array("f", vector) for vector in (await self._embedder.embed(texts)).vectors]
