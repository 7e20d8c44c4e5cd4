"""Plain text and Markdown: headings make sections."""

import re

from cloister_retriever.parsing.decoding import clean, decode
from cloister_retriever.parsing.document import Document, Segment, UnreadableFile, too_long
from cloister_retriever.parsing.kinds.kind import Kind, Source

__all__ = ["TEXT", "parse_text"]

_WIDEST = 4
"""Bytes a character has in UTF-32, the widest encoding."""

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*)")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_MARKDOWN_NAME = re.compile(r"\.(md|markdown|mdown|mkd)\Z", re.IGNORECASE)
_MAX_HEADING = 200


def parse_text(content: bytes, name: str) -> Document:
    """The text of a file, cut into sections if it is Markdown.

    Raises:
        UnreadableFile: It is not text in any encoding we know.
    """
    text = clean(decode(content))
    if not text.strip():
        raise UnreadableFile("invalid_file", "The file has no text.")
    segments = _sections(text)
    if _MARKDOWN_NAME.search(name) or sum(segment.section is not None for segment in segments) >= 2:
        return Document(text, markdown=True, segments=segments)
    return Document(text, segments=[Segment(0, len(text))])


def _title(rest: str) -> str:
    """A heading without the hashes that may close it: ``Two ##`` is "Two", but ``C#`` stays (CommonMark 0.31, 4.2)."""
    title = rest.strip(" \t")
    bare = title.rstrip("#")
    return bare.rstrip(" \t") if bare == "" or bare[-1] in " \t" else title


def _sections(text: str) -> list[Segment]:
    """One segment a heading, from its line to the next heading; ``#`` in fenced code is no heading."""
    segments: list[Segment] = []
    path: list[tuple[int, str]] = []
    start = position = 0
    fence: str | None = None
    section: str | None = None
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\n")
        fenced = _FENCE.match(bare)
        if fence is not None:
            if fenced and fenced[1].startswith(fence) and not bare.strip().strip(fence[0]):
                fence = None
        elif fenced:
            fence = fenced[1]
        elif heading := _HEADING.match(bare):
            if text[start:position].strip():
                segments.append(Segment(start, position, section=section))
            level = len(heading[1])
            path = [*(above for above in path if above[0] < level), (level, _title(heading[2])[:_MAX_HEADING])]
            section = " > ".join(title for _, title in path if title) or None
            start = position
        position += len(line)
    if text[start:].strip():
        segments.append(Segment(start, len(text), section=section))
    return segments


def _parse(source: Source) -> Document:
    if len(source.content) > _WIDEST * source.max_text_bytes:
        raise too_long(source.max_text_bytes)
    return parse_text(source.content, source.name)


TEXT = Kind("text", called=("plain text", "Markdown"), parse=_parse)
