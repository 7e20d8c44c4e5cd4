"""Bytes to text in any common encoding, and text without what cannot be seen. Every kind's text goes through here."""

import codecs
import functools
import re
import unicodedata

import charset_normalizer

from cloister_retriever.parsing.document import UnreadableFile

__all__ = ["clean", "decode"]

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
    return UnreadableFile("unsupported_file", "The file is not text in a known encoding.")
