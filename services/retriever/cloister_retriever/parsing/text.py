"""Plain text and Markdown: decoding, cleaning, headings."""

import codecs
import functools
import re
import unicodedata

import charset_normalizer

from cloister_retriever.parsing.document import SUPPORTED, Document, Segment, UnreadableFile

__all__ = ["clean", "decode", "parse_text"]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_ENDS = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_MARKS_IN_A_ROW = 30
"""As many combining characters as UAX #15 (D4, "Stream-Safe Text Format") lets follow each other. No language needs
more, and to bring a million of them into order takes Python the square of that."""

_COMBINING_BELOW = 0x20000
"""No combining character has a number beyond the supplementary multilingual plane."""

_JOINER = "\u034f"
"""Combining grapheme joiner: what UAX #15 puts between too many marks. It is not seen, and ends their order."""

_MOST_CONTROL = 0.01
"""Above this share of control characters a file is not text."""

_GUESS_BYTES = 256 * 1024
"""As much as charset detection looks at."""

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


def decode(content: bytes) -> str:
    """``content`` as text: by its byte order mark, as UTF-8, or in the encoding it most probably has."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return _checked(content[len(mark) :].decode(encoding, "replace"))
    try:
        return _checked(content.decode("utf-8"))
    except UnicodeDecodeError:
        guess = charset_normalizer.from_bytes(content[:_GUESS_BYTES], steps=5, chunk_size=1024).best()
    if guess is None:
        raise _not_text()
    return _checked(content.decode(guess.encoding, "replace"))


def clean(text: str) -> str:
    """One kind of line end, no control characters, no lone surrogates, composed characters (NFC)."""
    text = _CONTROL.sub("", _LINE_ENDS.sub("\n", text)).encode("utf-8", "replace").decode("utf-8")
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _too_many_marks().sub(rf"\g<0>{_JOINER}", text))


@functools.cache
def _too_many_marks() -> re.Pattern[str]:
    """Finds runs of combining characters that are as long as they may be and go on."""
    marks = "".join(char for char in map(chr, range(_COMBINING_BELOW)) if unicodedata.combining(char))
    return re.compile(f"[{marks}]{{{_MARKS_IN_A_ROW}}}(?=[{marks}])")


def _checked(text: str) -> str:
    odd = len(_CONTROL.findall(text)) + text.count("\ufffd")
    if odd > len(text) * _MOST_CONTROL:
        raise _not_text()
    return text


def _not_text() -> UnreadableFile:
    return UnreadableFile("unsupported_file", f"The file is not text in a known encoding. Supported: {SUPPORTED}.")


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
