"""Bytes to text in any common encoding, and text without what cannot be seen. Every kind's text goes through here."""

import codecs
import contextlib
import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.encodings import guess

__all__ = ["Decoded", "clean", "decode", "unmarked", "wide_marked"]

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

_MOST_NOT_TEXT = 0.1
"""The same, with bytes that are in no character: a text may be damaged, as long as most of it can be read."""

_WITHOUT_MARK = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
"""Encodings of text that has zero bytes and no byte order mark."""

_SEEN = 64 * 1024
"""Characters by which a byte order is told."""

_MOST_LOW_ZEROS = 0.1
_NONSENSE = frozenset({"Cc", "Cn", "Co", "Cs"})
"""Categories of what no text has: control, not assigned, for private use, half of a pair."""

_CONTROL_BYTES = [bytes([byte]) for byte in range(32) if byte not in b"\t\n\r\f\x1b"]


class Decoded(NamedTuple):
    """Text, and what whoever uploaded it should know: one sentence, or None."""

    text: str
    note: str | None = None


def unmarked(content: bytes) -> bytes:
    """``content`` without UTF-8's byte order mark, behind which its type is told."""
    return content.removeprefix(codecs.BOM_UTF8)


def wide_marked(content: bytes) -> bytes:
    """``content`` in UTF-8, if its byte order mark says that it has two or four bytes a character."""
    for mark, encoding in _BOMS[1:]:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace").encode("utf-8", "replace")
    return content


def decode(content: bytes, *, declared: str | None = None, languages: Sequence[str] = ()) -> Decoded:
    """``content`` as text: by its byte order mark, as UTF-8, as it says itself, or in the encoding it probably has.

    UTF-8 of which some bytes are damaged stays UTF-8, and loses these characters only.

    Args:
        content: All of it.
        declared: What the file says of its encoding; believed where the bytes are such.
        languages: Those that are expected, for a guess.

    Raises:
        UnreadableFile: It is no text.
    """
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return _told(_checked(content[len(mark) :].decode(encoding, "replace")))
    if b"\0" in content and (wide := _wide(content)) is not None:
        return Decoded(wide)
    utf8 = _utf8(content)
    if utf8 is not None:
        return utf8
    if declared is not None and (text := _as_declared(content, declared)) is not None:
        return Decoded(_checked(text))
    if sum(content.count(byte) for byte in _CONTROL_BYTES) > len(content) * _MOST_CONTROL:
        raise _not_text()
    found = guess(content, languages=languages)
    if found is None:
        raise _not_text()
    decoded = _told(_checked(content.decode(found.encoding, "replace")))
    if not found.sure and decoded.note is None:
        name = found.encoding.upper().replace("CP125", "Windows-125").replace("ISO8859", "ISO 8859").replace("_", "-")
        return decoded._replace(note=f"The file does not say its encoding. It was read as {name}, which may be wrong.")
    return decoded


def _utf8(content: bytes) -> Decoded | None:
    """UTF-8, also where a few bytes of it are not. Shifts between alphabets are ASCII, and no text in it."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("utf-8", "replace")
        damaged = text.count("\ufffd")
        # Of other encodings hardly two bytes in a row are a character of UTF-8 by chance.
        if len(text) - _ascii_in(text) - damaged < 2 * damaged:
            return None
        return _told(_checked(text))
    if content.isascii() and (found := guess(content)) is not None:
        text = content.decode(found.encoding, "replace")
    return Decoded(_checked(text))


def _wide(content: bytes) -> str | None:
    """Text of two or four bytes a character: in the byte order that makes sense, with the most ASCII in it."""
    if content.count(b"\0") <= len(content) * _MOST_CONTROL:
        with contextlib.suppress(UnicodeDecodeError):
            content.decode("utf-8")
            return None  # a text with a few stray zero bytes
    best: str | None = None
    zeros = (content[0::2].count(0), content[1::2].count(0))
    for encoding in _WITHOUT_MARK:
        # Of two bytes the higher is zero in ASCII, and the lower one hardly ever: in other files either is.
        high, low = zeros if encoding.endswith("be") else reversed(zeros)
        if "16" in encoding and low > high * _MOST_LOW_ZEROS:
            continue
        try:
            text = content.decode(encoding, "strict" if "32" in encoding else "replace")
        except UnicodeDecodeError:
            continue
        seen = text[:_SEEN]
        nonsense = sum(unicodedata.category(char) in _NONSENSE for char in seen if char not in "\t\r\n\ufffd")
        if nonsense + seen.count("\ufffd") <= len(seen) * _MOST_CONTROL and (
            best is None or _ascii_in(seen) > _ascii_in(best[:_SEEN])
        ):
            best = text
    return best


def _as_declared(content: bytes, declared: str) -> str | None:
    try:
        name = codecs.lookup(declared.strip().strip("\"'")).name
        # What calls itself Latin-1 or ASCII is Windows-1252 on the web, and everywhere (WHATWG's Encoding Standard).
        if name in {"iso8859-1", "ascii"}:
            return content.decode("cp1252", "replace")
        if name in {"utf-8", "utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape"}:
            return None
        return content.decode(name)
    except (LookupError, UnicodeError, ValueError):
        return None


def _ascii_in(text: str) -> int:
    return len(text) if text.isascii() else sum(char < "\x80" for char in text)


def _told(text: str) -> Decoded:
    damaged = text.count("\ufffd")
    if damaged == 0:
        return Decoded(text)
    what = "One character" if damaged == 1 else f"{damaged} characters"
    return Decoded(text, f"{what} could not be read and {'stands' if damaged == 1 else 'stand'} as \ufffd.")


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
    odd = len(_CONTROL.findall(text))
    if odd > len(text) * _MOST_CONTROL or odd + text.count("\ufffd") > len(text) * _MOST_NOT_TEXT:
        raise _not_text()
    return text


def _not_text() -> UnreadableFile:
    return UnreadableFile("unsupported_file", "The file is not text in a known encoding.")
