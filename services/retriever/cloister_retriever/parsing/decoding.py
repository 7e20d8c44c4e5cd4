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
from cloister_retriever.parsing.unmarked import east_asian_of, ebcdic_of

__all__ = ["Decoded", "clean", "decode", "unmarked", "unmarked_wide", "wide_marked"]

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_ENDS = re.compile(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_UNSEEN = re.compile(rf"{_CONTROL.pattern}|\ufeff")
"""And the byte order mark, which stands in the middle where files were put together: it speaks for text."""

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

_SAID_IN = b"<a charset=AZ09>"
_NO_CHARSETS = frozenset({"utf-8", "utf-7", "idna", "punycode", "unicode_escape", "raw_unicode_escape"})
"""What is not believed: UTF-8 was tried, and no file is in the others."""

_ANY_BYTE = frozenset({"iso8859-1", "ascii"})
_MEANT = {
    **dict.fromkeys(_ANY_BYTE, "cp1252"),
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-11": "cp874",
    "iso8859-9": "cp1254",
    "shift_jis": "cp932",
    "tis-620": "cp874",
}
"""What calls itself so is the other, which has all of its characters and more, on the web and everywhere (WHATWG's
Encoding Standard, "Names and labels")."""

_FEW_BEYOND = 20
_HALVES = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")
_SEEN = 64 * 1024
"""Characters by which a byte order is told."""

_MOST_LOW_ZEROS = 0.1
_NONSENSE = frozenset({"Cc", "Cn", "Co", "Cs"})
"""Categories of what no text has: control, not assigned, for private use, half of a pair."""

_UNSURE = "The file does not say its encoding. It was read as {}, which may be wrong."
_CONTROL_BYTES = [bytes([byte]) for byte in range(32) if byte not in b"\t\n\r\f\x1b"]


_TERMINAL = re.compile("\x1b\\[[0-9;?]{0,40}[ -/]?[@-~]|\x1b\\][^\x07\x1b\n]{0,400}(?:\x07|\x1b\\\\)|.\x08(?!\x08)")
"""What tells a terminal of colours and titles (ECMA-48, 5.4), and a letter that is written over, as manuals have it."""


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


def unmarked_wide(content: bytes) -> bytes | None:
    """``content`` in UTF-8, if it is text of two or four bytes a character without a byte order mark."""
    text = _wide(content) if b"\0" in content else None
    return None if text is None else text.encode("utf-8", "replace")


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
    decoded = _decoded(content, declared, languages)
    return decoded._replace(text=_checked(_TERMINAL.sub("", decoded.text)))


def _decoded(content: bytes, declared: str | None, languages: Sequence[str]) -> Decoded:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return _told(content[len(mark) :].decode(encoding, "replace"))
    if b"\0" in content and (wide := _wide(content)) is not None:
        return Decoded(wide)
    if declared is not None and (text := _shifted(content, declared)) is not None:
        return Decoded(text)
    utf8 = _utf8(content)
    if utf8 is not None:
        return utf8
    if declared is not None and (text := _as_declared(content, declared)) is not None:
        return Decoded(text)
    if (code_page := ebcdic_of(content)) is not None:
        return Decoded(content.decode(code_page, "replace"), _UNSURE.format(code_page.replace("cp", "EBCDIC ")))
    if sum(content.count(byte) for byte in _CONTROL_BYTES) > len(content) * _MOST_CONTROL:
        if (wide := east_asian_of(content)) is not None:
            return _told(content.decode(wide, "replace"))
        raise _not_text()
    found = guess(content, languages=languages)
    if found is None:
        raise _not_text()
    decoded = _told(content.decode(found.encoding, "replace"))
    if not found.sure and decoded.note is None:
        name = found.encoding.upper().replace("CP125", "Windows-125").replace("ISO8859", "ISO 8859").replace("_", "-")
        return decoded._replace(note=_UNSURE.format(name))
    return decoded


def _utf8(content: bytes) -> Decoded | None:
    """UTF-8, also where a few bytes of it are not. Shifts between alphabets are ASCII, and no text in it."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = _paired(content).decode("utf-8", "replace")
        damaged = text.count("\ufffd")
        # Of other encodings hardly two bytes in a row are a character of UTF-8 by chance.
        if len(text) - _ascii_in(text) - damaged < 2 * damaged:
            return None
        return _told(text)
    if content.isascii() and (found := guess(content)) is not None:
        text = content.decode(found.encoding, "replace")
    return Decoded(text)


def _paired(content: bytes) -> bytes:
    """UTF-8 of what some databases and Java write as such: a character beyond 16 bits as two halves (CESU-8, Unicode
    Technical Report 26)."""
    if _HALVES.search(content) is None:
        return content
    return _HALVES.sub(
        lambda two: two[0].decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16").encode(),
        content,
    )


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


def _shifted(content: bytes, declared: str) -> str | None:
    """UTF-7, which is ASCII to look at, where a mail says that it is."""
    if declared.strip().strip("\"'").lower().replace("_", "-") not in {"utf-7", "utf7"} or not content.isascii():
        return None
    with contextlib.suppress(UnicodeDecodeError):
        return content.decode("utf-7")
    return None


def _as_declared(content: bytes, declared: str) -> str | None:
    """As the file says, where hardly a character is damaged then. What says it is ASCII, so the encoding has that."""
    try:
        name = codecs.lookup(declared.strip().strip("\"'")).name
        if name in _NO_CHARSETS or _SAID_IN.decode(name) != _SAID_IN.decode("ascii"):
            return None
        text = content.decode(_MEANT.get(name, name), "replace")
    except (LookupError, UnicodeError, ValueError):
        return None
    damaged = text.count("\ufffd")
    beyond = len(text) - _ascii_in(text)
    return text if name in _ANY_BYTE or damaged <= (beyond > _FEW_BEYOND) + beyond * _MOST_CONTROL else None


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
    text = _UNSEEN.sub("", _LINE_ENDS.sub("\n", text)).encode("utf-8", "replace").decode("utf-8")
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
