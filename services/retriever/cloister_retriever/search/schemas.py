"""Search requests, and results in OpenAI's shape with our additions."""

from typing import Annotated

from cloister_common.errors import UnsupportedParameter
from cloister_common.wire.filters import Filter
from cloister_common.wire.requests import RequestModel
from openai.types import VectorStoreSearchResponse
from openai.types.vector_store_search_response import Content
from pydantic import BaseModel, Field, StringConstraints

__all__ = ["InternalSearch", "PassagePlace", "RankingOptions", "SearchRequest", "SearchResult", "StoreSearch"]

_Query = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class RankingOptions(RequestModel):
    """``ranker`` may be ``none`` or ``auto``: both rank by exact similarity. OpenAI's own ranker is not here."""

    ranker: str = "auto"
    score_threshold: float | None = Field(None, ge=0.0, le=1.0)


class SearchRequest(RequestModel):
    """What both search routes take. ``filters`` is a comparison or a compound of attributes of files."""

    query: _Query | Annotated[list[_Query], Field(min_length=1, max_length=16, fail_fast=True)]
    max_num_results: int = Field(10, ge=1, le=50)
    filters: Filter | None = None
    ranking_options: RankingOptions | None = None

    @property
    def queries(self) -> list[str]:
        """The queries, always as a list."""
        return [self.query] if isinstance(self.query, str) else self.query

    @property
    def threshold(self) -> float:
        """The least cosine of a result, which is -1 at least."""
        asked = None if self.ranking_options is None else self.ranking_options.score_threshold
        return -1.0 if asked is None else asked

    def check(self) -> None:
        """Refuses by name what the types cannot.

        Raises:
            UnsupportedParameter: A ranker that is not here.
        """
        if self.ranking_options is not None and self.ranking_options.ranker not in {"none", "auto"}:
            raise UnsupportedParameter(
                "ranking_options.ranker", "Unsupported value for 'ranking_options.ranker'. Use 'auto' or 'none'."
            )


class StoreSearch(SearchRequest):
    """``POST /v1/vector_stores/{id}/search``."""

    rewrite_query: bool = False

    def check(self) -> None:
        super().check()
        if self.rewrite_query:
            raise UnsupportedParameter("rewrite_query")


class InternalSearch(SearchRequest):
    """``POST /internal/search``."""

    vector_store_ids: list[str] = Field(min_length=1, max_length=20, fail_fast=True)


class PassagePlace(BaseModel):
    """Where a passage is: characters ``start`` to ``end`` of the extracted text, and its page or section."""

    id: str
    index: int
    page: int | None
    section: str | None
    start: int
    end: int


class SearchResult(BaseModel):
    """One passage. OpenAI's fields, ``passage``, and ``vector_store_id`` where several stores were searched."""

    vector_store_id: str
    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | bool | int | float]
    text: str
    passage: PassagePlace

    def wire(self, *, with_store: bool) -> dict[str, object]:
        """The JSON of a result."""
        openai = VectorStoreSearchResponse(
            file_id=self.file_id,
            filename=self.filename,
            score=self.score,
            attributes=dict(self.attributes),
            content=[Content(type="text", text=self.text)],
        )
        ours: dict[str, object] = {"passage": self.passage.model_dump()}
        if with_store:
            ours["vector_store_id"] = self.vector_store_id
        return {**openai.model_dump(mode="json"), "attributes": self.attributes, **ours}
