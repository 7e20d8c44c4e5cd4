"""Headings over text: which parts of a document they stand over, and a document that is written part by part."""

from collections.abc import Iterable, Sequence

from cloister_retriever.parsing.captions import is_description
from cloister_retriever.parsing.decoding import clean
from cloister_retriever.parsing.document import Document, Heading, Picture, Segment, too_long

__all__ = ["Writer", "segments"]

_MAX_HEADING = 200
_DEEPEST = 12
"""Headings above a passage that are said. Nobody nests deeper, except to make a path of megabytes."""


def segments(text: str, headings: Iterable[Heading]) -> list[Segment]:
    """One segment for each heading that has text, from its line to the next heading.

    Headings that follow each other begin one segment, and those that nothing follows end the one before: none is a
    segment of its own, unless there is nothing else.
    """
    return list(_segments(text, headings, 0, len(text), [], None))


def _segments(
    text: str, headings: Iterable[Heading], start: int, end: int, path: list[tuple[int, str]], page: int | None
) -> Iterable[Segment]:
    """As `segments`, of a part of the text; ``path`` has the headings above, and is brought up to date."""
    made: list[Segment] = []
    first, body, section = start, None, _section(path)

    def close(until: int) -> bool:
        if not text[first if body is None else body : until].strip():
            return False
        made.append(Segment(first, until, page, section, body))
        return True

    for heading in headings:
        if close(heading.start) or (body is None and not text[first : heading.start].strip()):
            first = heading.start
        del path[next((at for at, (level, _) in enumerate(path) if level >= heading.level), len(path)) :]
        path.append((heading.level, heading.title[:_MAX_HEADING]))
        body, section = heading.end, _section(path)
    if not close(end) and text[first:end].strip():
        if made:
            made[-1] = made[-1]._replace(end=end, tail=first)
        else:
            made.append(Segment(first, end, page, section))
    return made


def _section(path: Sequence[tuple[int, str]]) -> str | None:
    return " > ".join(title for _, title in path[-_DEEPEST:] if title) or None


class Writer:
    """A document that a parser writes in its order: paragraphs, headings, rows, pages.

    Args:
        max_text_bytes: More text than this ends it with `UnreadableFile`.
    """

    def __init__(self, max_text_bytes: int) -> None:
        self._max_text_bytes = max_text_bytes
        self._parts: list[str] = []
        self._length = 0
        self._headings: list[Heading] = []
        self._pages: list[tuple[int, int | None]] = [(0, None)]
        self._tight = False
        self._pictures: list[Picture] = []
        self._fresh = 0
        """Of the pictures the last so many have no text behind them yet, but their own."""

        self._caption: tuple[int, int] | None = None
        """The text written last, if it is a caption."""

        self.notes: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written."""
        return not self._parts and not self._pictures

    @property
    def has_text(self) -> bool:
        """Whether there is more than pictures."""
        return bool(self._parts)

    def heading(self, level: int, title: str) -> None:
        """A heading, over all that follows until the next of this level or above."""
        title = " ".join(clean(title).split())
        if not title:
            return
        start = self._put(title, tight=False)
        self._headings.append(Heading(start, self._length, level, title))

    def paragraph(self, text: str) -> None:
        """Text that stands apart."""
        text = clean(text).strip("\n").rstrip()
        if text.strip():
            self._put(text, tight=False)

    def line(self, text: str) -> None:
        """Text on a line of its own, with no blank line between it and another such: a row, an item of a list."""
        text = clean(text).strip("\n").rstrip()
        if text.strip():
            self._put(text, tight=True)

    def picture(self, number: int | None, text: str = "") -> None:
        """A picture of the album stands here; nothing does where it was left out.

        Args:
            number: The picture's.
            text: What stands for it where it is not seen. It is written, if it says anything.
        """
        if number is None:
            return
        at, described, fresh = self._length, self._caption, self._fresh
        text = " ".join(clean(text).split())
        if is_description(text):
            described = (self._put(text, tight=False), self._length)
        self._pictures.append(Picture(number, at, self._pages[-1][1], described))
        self._fresh, self._caption = fresh + 1, None

    def caption(self, text: str) -> None:
        """A paragraph that describes the pictures right before it, or else the one right behind it."""
        fresh = self._fresh
        text = clean(text).strip()
        if not text:
            return
        start = self._put(text, tight=False)
        for place in range(len(self._pictures) - fresh, len(self._pictures)):
            picture = self._pictures[place]
            # Together with its own text only where nothing is between the two.
            first = picture.described[0] if picture.described is not None and fresh == 1 else start
            self._pictures[place] = picture._replace(described=(first, self._length))
        self._caption = None if fresh else (start, self._length)

    def apart(self) -> None:
        """What follows stands apart from the lines before it."""
        self._tight = False

    def page(self, number: int | None) -> None:
        """What follows is on this page, 1-based, or on none."""
        self._tight = False
        self._pages.append((self._length, number))

    def note(self, sentence: str) -> None:
        """Says something to whoever uploaded the file, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def add(self, document: Document, *, level: int) -> None:
        """Another document, with its headings ``level`` levels further in, without its pages."""
        text = document.text.strip("\n")
        moved, page = self._length, self._pages[-1][1]
        if text:
            moved = self._put(text, tight=False) - (len(document.text) - len(document.text.lstrip("\n")))
            for start, end, deep, title in document.headings:
                self._headings.append(Heading(start + moved, end + moved, deep + level, title))
        for picture in document.pictures:
            described = picture.described and (picture.described[0] + moved, picture.described[1] + moved)
            self._pictures.append(Picture(picture.number, picture.at + moved, page, described))
        for sentence in document.notes:
            self.note(sentence)

    def document(self) -> Document:
        """What was written."""
        text = "".join(self._parts)
        made: list[Segment] = []
        path: list[tuple[int, str]] = []
        waiting = iter([*self._headings, None])
        heading = next(waiting)
        ends = [start for start, _ in self._pages[1:]] + [len(text)]
        for (start, number), end in zip(self._pages, ends, strict=True):
            here: list[Heading] = []
            while heading is not None and heading.start < end:
                here.append(heading)
                heading = next(waiting)
            made += _segments(text, here, start, end, path, number)
        return Document(text, segments=made, headings=self._headings, pictures=self._pictures, notes=self.notes)

    def _put(self, text: str, *, tight: bool) -> int:
        """Appends ``text`` and says where it begins."""
        self._fresh, self._caption = 0, None
        if self._parts:
            gap = "\n" if tight and self._tight else "\n\n"
            self._parts.append(gap)
            self._length += len(gap)
        self._tight = tight
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        if self._length > self._max_text_bytes:
            raise too_long(self._max_text_bytes)
        return start
