"""What stands for a picture in words: what describes it, else the text around it, nearest first."""

from typing import Literal, NamedTuple

from cloister_retriever.parsing.captions import is_caption
from cloister_retriever.parsing.chunking import Chunker
from cloister_retriever.parsing.document import Document, Picture, Segment

__all__ = ["FoundBy", "Words", "words_for"]

FoundBy = Literal["description", "surroundings"]
"""What the words are that a picture is found by."""

_MOST_CHARACTERS = 600
"""Of the text around a picture: a paragraph or two. More would say what the page is about, and not the picture."""


class Words(NamedTuple):
    """Characters ``start`` to ``end`` of the text, of this section."""

    start: int
    end: int
    section: str | None
    by: FoundBy


def words_for(document: Document, picture: Picture, chunker: Chunker) -> Words | None:
    """The words for a picture, as many as the model reads; None where its page or section has none."""
    text = document.text
    place = _place(document, picture)
    section = None if place is None else place.section
    if picture.described is not None:
        start, end = picture.described
        return Words(start, chunker.fitted(text, start, end), section, "description")
    bounds = _bounds(document, picture, place)
    if bounds is None:
        return None
    paragraphs = _paragraphs(text, *bounds)
    if not paragraphs:
        return None
    behind = next((n for n, (start, _) in enumerate(paragraphs) if start >= picture.at), len(paragraphs))
    for number in (behind, behind - 1):
        if 0 <= number < len(paragraphs) and (caption := _caption(text, *paragraphs[number])) is not None:
            start, end = caption
            return Words(start, chunker.fitted(text, start, end), section, "description")
    first, last = _grown(paragraphs, behind, picture.at)
    start = paragraphs[first][0]
    return Words(start, chunker.fitted(text, start, paragraphs[last][1]), section, "surroundings")


def _place(document: Document, picture: Picture) -> Segment | None:
    """The segment that a picture stands in: the last that begins before it, on its page."""
    found = None
    for segment in document.segments:
        if segment.page == picture.page and (segment.start <= picture.at or found is None):
            found = segment
    return found


def _bounds(document: Document, picture: Picture, place: Segment | None) -> tuple[int, int] | None:
    """Of a page all of it, since what stands on it is drawn in any order; else of a section."""
    if place is None:
        return None
    if picture.page is None:
        return place.start, place.end
    on_page = [segment for segment in document.segments if segment.page == picture.page]
    return on_page[0].start, on_page[-1].end


def _caption(text: str, start: int, end: int) -> tuple[int, int] | None:
    """What of a paragraph is a caption: from the line on that begins as one. A PDF has no paragraphs, and on a page of
    few lines a caption may have been put together with what stands far above it."""
    at = start
    while at < end:
        until = text.find("\n", at, end)
        until = end if until < 0 else until
        if is_caption(text[at:until]):
            return at, end
        at = until + 1
    return None


def _paragraphs(text: str, start: int, end: int) -> list[tuple[int, int]]:
    found = []
    at = start
    while at < end:
        until = text.find("\n\n", at, end)
        until = end if until < 0 else until
        bare = text[at:until].strip()
        if bare:
            begin = text.index(bare[0], at)
            found.append((begin, begin + len(bare)))
        at = until + 2
    return found


def _grown(paragraphs: list[tuple[int, int]], behind: int, at: int) -> tuple[int, int]:
    """The first and last of the paragraphs nearest to ``at`` that together are short enough; one at least."""
    first, last = behind, behind - 1
    while True:
        before = at - paragraphs[first - 1][1] if first > 0 else None
        after = paragraphs[last + 1][0] - at if last + 1 < len(paragraphs) else None
        if before is None and after is None:
            return first, last
        backwards = after is None or (before is not None and before < after)
        new = (first - 1, last) if backwards else (first, last + 1)
        if first <= last and paragraphs[new[1]][1] - paragraphs[new[0]][0] > _MOST_CHARACTERS:
            return first, last
        first, last = new
