"""The search of documents: what both routes of the retriever take and give, and its client sends and reads.

    POST /v1/vector_stores/{id}/search   `StoreSearch`, OpenAI's, with `FoundPassage.wire` in ``data``
    POST /internal/search                `InternalSearch`, over several stores, for the gateway's turns

Source: OpenAI API reference, "Search vector store". ``passage``, ``found_by``, ``image`` and
``vector_store_id`` of a result are ours, and a picture as ``query``.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from cloister_common.errors import UnsupportedParameter
from cloister_common.wire.filters import Filter
from cloister_common.wire.requests import Extension, RequestModel

__all__ = [
    "RANKERS",
    "FoundBy",
    "FoundImage",
    "FoundPassage",
    "HybridSearch",
    "ImageQuery",
    "InternalSearch",
    "PassagePlace",
    "Ranker",
    "RankingOptions",
    "SearchRequest",
    "StoreSearch",
]

Ranker = Literal["auto", "none", "default-2024-11-15", "default-2024-08-21"]
RANKERS: tuple[str, ...] = get_args(Ranker)
"""What a ranker may be called. Clients name OpenAI's own by date: here they are the one there is, as ``auto``."""

_Query = Annotated[str, StringConstraints(min_length=1, max_length=100_000)]


FoundBy = Literal["text", "description", "surroundings", "image"]
"""The way by which a result was found: a passage by its text; a picture by what describes it, by the text around it, or
by what it shows."""


class ImageQuery(RequestModel):
    """A picture that is searched with: OpenAI's content part, with a data URL or a file that was uploaded."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            raise PydanticCustomError("rule_of_field", "send either that or 'file_id'", {"field": "image_url"})
        return self


def _kind(query: Any) -> str:
    """Which form a query has, in brackets: so it is no part of a field's path (`cloister_common.validation`)."""
    if isinstance(query, list):
        return "[list]"
    return "[image]" if isinstance(query, Mapping | ImageQuery) else "[text]"


_Part = Annotated[
    Annotated[_Query, Tag("[text]")] | Annotated[ImageQuery, Tag("[image]")],
    Discriminator(lambda part: "[text]" if isinstance(part, list) else _kind(part)),
]


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
    """How results are put in order."""

    ranker: str = Field(
        "auto",
        description="`auto`: by the score, or by the cross-encoder that the operator has named; `none`: by the score. "
        "`default-2024-11-15` and `default-2024-08-21` are `auto` here.",
    )
    score_threshold: float | None = Field(None, ge=0.0, le=1.0)
    hybrid_search: Annotated[HybridSearch | None, Extension()] = Field(
        None, description="OpenAI has it in the tool `file_search` only."
    )


class SearchRequest(RequestModel):
    """What both search routes take. ``filters`` is a comparison or a compound of attributes of files."""

    query: Annotated[
        Annotated[_Query, Tag("[text]")]
        | Annotated[ImageQuery, Tag("[image]")]
        | Annotated[list[_Part], Field(min_length=1, max_length=16, fail_fast=True), Tag("[list]")],
        Discriminator(_kind),
    ]
    max_num_results: int = Field(10, ge=1, le=50)
    filters: Filter | None = None
    ranking_options: RankingOptions | None = None

    @property
    def queries(self) -> list[str]:
        """The queries in words, always as a list."""
        return [query for query in self._all if isinstance(query, str)]

    @property
    def pictures(self) -> list[tuple[str, ImageQuery]]:
        """The pictures that are searched with, each with what it is called in an error."""
        single = not isinstance(self.query, list)
        return [
            ("query" if single else f"query[{place}]", query)
            for place, query in enumerate(self._all)
            if isinstance(query, ImageQuery)
        ]

    @property
    def _all(self) -> list[str | ImageQuery]:
        return list(self.query) if isinstance(self.query, list) else [self.query]

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
            UnsupportedParameter: A ranker of which nobody knows.
        """
        if self.ranking_options is not None and self.ranking_options.ranker not in RANKERS:
            known = ", ".join(f"'{name}'" for name in RANKERS)
            raise UnsupportedParameter(
                "ranking_options.ranker", f"Unsupported value for 'ranking_options.ranker'. Use one of {known}."
            )


class StoreSearch(SearchRequest):
    """``POST /v1/vector_stores/{id}/search``."""

    rewrite_query: bool = Field(
        False,
        description="With it a chat model writes one query more, where the operator has named one for that; else it is "
        "refused. `search_query` has all that was searched for, and `query_rewritten` (ours) whether it wrote one.",
    )

    def check(self) -> None:
        super().check()
        if self.rewrite_query:
            raise UnsupportedParameter(
                "rewrite_query", "The retriever writes no queries; the gateway does. Leave 'rewrite_query' out."
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


class FoundImage(BaseModel):
    """The picture that a result is.

    Attributes:
        file_id: Its file: that of the result, but where the result is a file that describes a picture beside it.
        index: Its number in the file, from 0.
        url: Where it is fetched, at the same server.
        media_type: ``image/png`` or ``image/jpeg``; None where only its description was looked at.
        width, height: In pixels, likewise.
    """

    file_id: str
    index: int
    url: str
    media_type: str | None = None
    width: int | None = None
    height: int | None = None


class FoundPassage(BaseModel):
    """One result of a search. ``score`` goes from 0 to 1 and means the same for every query."""

    vector_store_id: str
    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | bool | int | float]
    text: str
    passage: PassagePlace
    found_by: FoundBy = "text"
    image: FoundImage | None = None

    def wire(self, *, with_store: bool) -> dict[str, Any]:
        """The JSON of a result; with its store where several were searched."""
        result: dict[str, Any] = {
            "file_id": self.file_id,
            "filename": self.filename,
            "score": self.score,
            "attributes": self.attributes,
            "content": [{"type": "text", "text": self.text}] if self.text else [],
            "passage": self.passage.model_dump(),
            "found_by": self.found_by,
        }
        if self.image is not None:
            result["image"] = self.image.model_dump()
        return {**result, "vector_store_id": self.vector_store_id} if with_store else result

    @classmethod
    def of_wire(cls, result: Mapping[str, Any]) -> Self:
        """The passage of a result that names its store.

        Raises:
            ValidationError, KeyError, TypeError: It is not a result.
        """
        text = "".join(part["text"] for part in result["content"])
        return cls.model_validate({**result, "text": text})
