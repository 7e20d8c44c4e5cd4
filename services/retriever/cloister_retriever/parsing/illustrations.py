"""Which pictures a file has, and the passages that stand for them in words."""

from collections.abc import Iterator
from typing import NamedTuple

from cloister_retriever.parsing.album import Album, DrawnPicture
from cloister_retriever.parsing.around import FoundBy, words_for
from cloister_retriever.parsing.chunking import Chunk, Chunker
from cloister_retriever.parsing.document import Document, Picture

__all__ = ["Illustration", "illustrations"]


class Illustration(NamedTuple):
    """A picture of a file, and the words for it, if there are some."""

    drawn: DrawnPicture
    page: int | None
    by: FoundBy | None
    words: Chunk | None
    """Its ``picture`` is this one's place in the list."""


def illustrations(document: Document, album: Album, chunker: Chunker) -> list[Illustration]:
    """The pictures that are kept, those with words first: their passages follow those of the text without a gap."""
    kept = album.drawn()
    found = [
        (kept[picture.number], picture.page, *_words(document, picture, chunker)) for picture in _once(document, kept)
    ]
    ordered = sorted(found, key=lambda one: one[3] is None)
    return [
        Illustration(drawn, page, by, None if words is None else words._replace(picture=place))
        for place, (drawn, page, by, words) in enumerate(ordered)
    ]


def _once(document: Document, kept: dict[int, DrawnPicture]) -> Iterator[Picture]:
    """Each picture once: where it is described, else where it stands first."""
    places: dict[int, Picture] = {}
    for picture in document.pictures:
        before = places.get(picture.number)
        if before is None or (before.described is None and picture.described is not None):
            places[picture.number] = picture
    return (picture for number, picture in places.items() if number in kept)


def _words(document: Document, picture: Picture, chunker: Chunker) -> tuple[FoundBy | None, Chunk | None]:
    words = words_for(document, picture, chunker)
    if words is None:
        return None, None
    heading = chunker.heading(words.section, document.text[words.start : words.end])
    return words.by, Chunk(words.start, words.end, picture.page, words.section, heading)
