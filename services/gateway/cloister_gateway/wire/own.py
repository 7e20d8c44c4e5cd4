"""What the server itself put out, as it comes back: items of earlier responses, whole or by their ids.

Who keeps the history sends the items of ``response.output`` with the next turn, as its SDK dumps them: with the fields
that are null, and with what the SDK has read out of them (``parsed``).
"""

from typing import Annotated, Any, Literal

from pydantic import Field, Tag, model_validator

from cloister_gateway.wire.items import Item
from cloister_gateway.wire.strict import LARGEST_NUMBER, Object, Strict, Text, by_type, only

__all__ = [
    "Annotation",
    "Compaction",
    "Dumped",
    "FileSearchCall",
    "ItemReference",
    "OutputRefusal",
    "Reasoning",
    "Status",
]

Status = Literal["in_progress", "completed", "incomplete"]
_Place = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]


class Dumped(Strict):
    """Base of what SDKs dump: a field that is null says nothing, also one of a later version of OpenAI's schema."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        return {name: value for name, value in data.items() if value is not None}


class FileCitation(Dumped):
    """A citation of a file; ``page``, ``section`` and ``quote`` are ours."""

    type: Literal["file_citation"]
    file_id: str
    filename: str
    index: _Place
    page: _Place | None = None
    section: str | None = None
    quote: Text | None = None


class UrlCitation(Dumped):
    """A citation of a page on the web, from another server of OpenAI's schema."""

    type: Literal["url_citation"]
    url: str
    title: str
    start_index: _Place
    end_index: _Place


class ContainerFileCitation(Dumped):
    """A citation of a file that a program made, from another server of OpenAI's schema."""

    type: Literal["container_file_citation"]
    container_id: str
    file_id: str
    filename: str
    start_index: _Place
    end_index: _Place


class FilePath(Dumped):
    """Where a file is named, from another server of OpenAI's schema."""

    type: Literal["file_path"]
    file_id: str
    index: _Place


Annotation = Annotated[
    Annotated[FileCitation, Tag("[file_citation]")]
    | Annotated[UrlCitation, Tag("[url_citation]")]
    | Annotated[ContainerFileCitation, Tag("[container_file_citation]")]
    | Annotated[FilePath, Tag("[file_path]")],
    by_type("file_citation", "url_citation", "container_file_citation", "file_path"),
]
"""What a text refers to. It stays with the message; the model is not shown it."""


class OutputRefusal(Dumped):
    """A part of an assistant's message in which it refuses."""

    type: Literal["refusal"]
    refusal: Text


class FileSearchResult(Dumped):
    """What a file search found."""

    file_id: str | None = None
    filename: str | None = None
    score: float | None = None
    text: Text | None = None
    attributes: Object | None = None
    image: Object | None = None

    def as_result(self) -> dict[str, Any]:
        """What is stored of it: ``image``, which is ours, only where there is one."""
        return self.model_dump(exclude=None if self.image else {"image"})


class FileSearchCall(Dumped):
    """A file search of an earlier turn. It stays in the history to be seen; a later turn searches anew. ``coverage`` is
    ours."""

    type: Literal["file_search_call"]
    id: str | None = Field(None, max_length=128)
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"] | None = None
    queries: Annotated[list[Text], Field(max_length=64, fail_fast=True)]
    results: Annotated[list[FileSearchResult], Field(max_length=64, fail_fast=True)] | None = None
    coverage: Literal["found", "not_in_documents", "no_documents"] | None = None

    def as_item(self) -> dict[str, Any]:
        """What is stored of it, less the id."""
        results = None if self.results is None else [one.as_result() for one in self.results]
        return {
            "type": self.type,
            "status": _ended(self.status),
            "queries": self.queries,
            "results": results,
            "coverage": self.coverage,
        }


class SummaryText(Dumped):
    """A part of a summary. None is made here."""

    type: Literal["summary_text"]
    text: Text


class ReasoningText(Dumped):
    """A part of a thought."""

    type: Annotated[Literal["reasoning_text"], only("reasoning_text")]
    text: Text


class Reasoning(Dumped):
    """What a model thought in an earlier turn, or earlier in this one; see `cloister_gateway.runs.sealing`."""

    type: Literal["reasoning"]
    id: str | None = Field(None, max_length=128)
    status: Status | None = None
    summary: Annotated[list[SummaryText], Field(max_length=64, fail_fast=True)] | None = None
    content: Annotated[list[ReasoningText], Field(max_length=64, fail_fast=True)] | None = None
    encrypted_content: Text | None = None

    def text(self) -> str:
        """The thought, as far as it is in the clear."""
        return "".join(part.text for part in self.content or [])

    def as_item(self, text: str) -> Item:
        """What is stored of it, less the id, with ``text`` as the thought."""
        item: Item = {
            "type": self.type,
            "status": _ended(self.status),
            "summary": [part.model_dump() for part in self.summary or []],
            "content": [{"type": "reasoning_text", "text": text}] if text else [],
        }
        return item if self.encrypted_content is None else {**item, "encrypted_content": self.encrypted_content}


class Compaction(Dumped):
    """What stands for the beginning of a conversation; see `cloister_gateway.runs.summaries`. ``cloister`` is ours."""

    type: Literal["compaction"]
    id: str | None = Field(None, max_length=128)
    encrypted_content: Text
    created_by: str | None = None
    cloister: Object | None = None


class ItemReference(Dumped):
    """An item that the server has, by its id."""

    type: Literal["item_reference"] | None = None
    id: str = Field(min_length=1, max_length=128)


def _ended(status: str | None) -> str:
    """What comes back has ended, whole unless it says otherwise."""
    return status if status in {"incomplete", "failed"} else "completed"
