"""The search of documents: what both routes of the retriever take and give, and its client sends and reads.

    POST /v1/vector_stores/{id}/search   `StoreSearch`, OpenAI's, with `FoundPassage.wire` in ``data``
    POST /internal/search                `InternalSearch`, over several stores, for the gateway's turns

Source: OpenAI API reference, "Search vector store". ``passage`` and ``vector_store_id`` of a result are ours.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, StringConstraints, model_validator

from cloister_common.errors import UnsupportedParameter
from cloister_common.wire.filters import Filter
from cloister_common.wire.requests import Extension, RequestModel

__all__ = [
    "FoundPassage",
    "HybridSearch",
    "InternalSearch",
    "PassagePlace",
    "RankingOptions",
    "SearchRequest",
    "StoreSearch",
]

_Query = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


class HybridSearch(RequestModel):
    """What meaning and words count in a score. Only their ratio matters."""

    embedding_weight: float = Field(ge=0.0, allow_inf_nan=False, description="Of the similarity of meaning.")
    text_weight: float = Field(ge=0.0, allow_inf_nan=False, description="Of the words in common.")

    @model_validator(mode="after")
    def _ranks_by_something(self) -> Self:
        if not self.embedding_weight + self.text_weight:
            raise ValueError("'embedding_weight' or 'text_weight' must be over 0")
        return self


class RankingOptions(RequestModel):
    """``ranker`` may be ``none`` or ``auto``: both rank by the score. OpenAI's own ranker is not here."""

    ranker: str = "auto"
    score_threshold: float | None = Field(None, ge=0.0, le=1.0)
    hybrid_search: Annotated[HybridSearch | None, Extension()] = Field(
        None, description="OpenAI has it in the tool `file_search` only."
    )


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
        """The least score of a result."""
        asked = None if self.ranking_options is None else self.ranking_options.score_threshold
        return 0.0 if asked is None else asked

    @property
    def hybrid(self) -> tuple[float, float] | None:
        """The weights of meaning and of words, where the caller says them."""
        asked = None if self.ranking_options is None else self.ranking_options.hybrid_search
        return None if asked is None else (asked.embedding_weight, asked.text_weight)

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

    rewrite_query: bool = Field(False, description="False only: the query is searched for as it is written.")

    def check(self) -> None:
        super().check()
        if self.rewrite_query:
            raise UnsupportedParameter(
                "rewrite_query", "Nothing here rewrites queries. Leave 'rewrite_query' out, or rewrite it yourself."
            )


class InternalSearch(SearchRequest):
    """``POST /internal/search``."""

    vector_store_ids: list[str] = Field(min_length=1, max_length=20, fail_fast=True)


class PassagePlace(BaseModel):
    """Where a passage is in its file.

    Attributes:
        id: Of the passage.
        index: Its number in the file, from 0.
        page: 1-based, where the file has pages.
        section: The headings above it, outermost first, joined by `` > ``, where the file has headings.
        start: First character in the file's extracted text.
        end: One after the last.
    """

    id: str
    index: int
    page: int | None
    section: str | None
    start: int
    end: int


class FoundPassage(BaseModel):
    """One result of a search. ``score`` goes from 0 to 1 and means the same for every query."""

    vector_store_id: str
    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | bool | int | float]
    text: str
    passage: PassagePlace

    def wire(self, *, with_store: bool) -> dict[str, Any]:
        """The JSON of a result; with its store where several were searched."""
        result: dict[str, Any] = {
            "file_id": self.file_id,
            "filename": self.filename,
            "score": self.score,
            "attributes": self.attributes,
            "content": [{"type": "text", "text": self.text}],
            "passage": self.passage.model_dump(),
        }
        return {**result, "vector_store_id": self.vector_store_id} if with_store else result

    @classmethod
    def of_wire(cls, result: Mapping[str, Any]) -> Self:
        """The passage of a result that names its store.

        Raises:
            ValidationError, KeyError, TypeError: It is not a result.
        """
        text = "".join(part["text"] for part in result["content"])
        return cls.model_validate({**result, "text": text})
