"""TNEF: the ``winmail.dat`` in which Outlook sends what its own kind of mail has, files above all (MS-OXTNEF)."""

import contextlib
import struct
from collections.abc import Iterator

import compressed_rtf

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.letters import Enclosure, write_enclosures
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.pages import write_page
from cloister_retriever.parsing.richtext import write_rich_text
from cloister_retriever.parsing.rtf_html import html_within

__all__ = ["TNEF"]

_SIGNATURE = b"\x78\x9f\x3e\x22"
_BEGINS_FILE, _FILE_NAME, _FILE_DATA, _FILE_ABOUT = 0x9002, 0x8010, 0x800F, 0x9005
_SUBJECT, _BODY, _ABOUT = 0x8004, 0x800C, 0x9003
"""Attributes, by the lower half of their number (2.1.3.2)."""

_LONG_NAME, _RTF, _HTML = 0x3707, 0x1009, 0x1013
"""Properties among what is said about a mail or a file."""

_FIXED = {2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 10: 4, 11: 4, 20: 8, 64: 8, 72: 16}
"""Bytes of properties of fixed length, by their type (2.1.3.4)."""

_TEXTS = {0x1E: "cp1252", 0x1F: "utf-16-le"}
_MOST_FILES = 1_000
_MOST_RTF = 64 * 1024 * 1024


def _parse(source: Source) -> Document:
    writer = Writer(source.max_text_bytes)
    enclosures: list[Enclosure] = []
    said: dict[int, bytes] = {}
    about: dict[int, bytes] = {}
    name, content = "", b""
    # An empty attribute at the end, so that the last file ends as the others do.
    for attribute, data in [*_attributes(source.content), (_BEGINS_FILE, b"")]:
        if attribute == _BEGINS_FILE:
            if content:
                enclosures.append(Enclosure(name, content))
            name, content = "", b""
        elif attribute == _FILE_NAME and not name:
            name = _text(data, source)
        elif attribute == _FILE_DATA:
            content = data
        elif attribute == _FILE_ABOUT:
            name = _text(_properties(data).get(_LONG_NAME, b""), source) or name
        elif attribute == _ABOUT:
            about = _properties(data)
        else:
            said[attribute] = data
    writer.heading(1, _text(said.get(_SUBJECT, b""), source))
    _write_words(writer, _text(said.get(_BODY, b""), source), about, source)
    write_enclosures(writer, source, enclosures[:_MOST_FILES], called="Attachment")
    if writer.is_empty:
        reason = "".join(f" {note}" for note in writer.notes)
        raise UnreadableFile("invalid_file", f"The TNEF file has nothing to read in it.{reason}"[:500])
    return writer.document()


def _write_words(writer: Writer, plain: str, about: dict[int, bytes], source: Source) -> None:
    if plain.strip():
        writer.paragraph(plain)
        return
    if (page := about.get(_HTML)) and write_page(writer, decode(page, languages=source.languages).text, level=1):
        return
    packed = about.get(_RTF, b"")
    if len(packed) >= 16 and int.from_bytes(packed[4:8], "little") <= _MOST_RTF:
        try:
            rich = bytes(compressed_rtf.decompress(packed))
        except Exception:  # noqa: BLE001 - that library raises whatever comes of damage, and Exception itself
            writer.note("The words of the mail are damaged, and were not read.")
            return
        within = html_within(rich)
        if within is None or not write_page(writer, within, level=1):
            write_rich_text(writer, rich)


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and data of each attribute; the last one may be cut off."""
    at = len(_SIGNATURE) + 2
    while at + 9 <= len(content):
        number, size = struct.unpack_from("<HxxI", content, at + 1)
        yield number, content[at + 9 : at + 9 + size]
        at += 9 + size + 2


def _properties(data: bytes) -> dict[int, bytes]:
    """The first value of each property that is text or bytes, text in UTF-8. What is cut off is missing."""
    found: dict[int, bytes] = {}
    try:
        count, at = struct.unpack_from("<I", data)[0], 4
        for _ in range(min(count, len(data))):
            kind, number = struct.unpack_from("<HH", data, at)
            at += 4
            if number >= 0x8000:  # one that has a name
                is_text, size = struct.unpack_from("<II", data, at + 16)
                at += 24 + (-(-size // 4) * 4 if is_text else 0)
            values = 1
            if kind & 0x1000 or kind in {*_TEXTS, 0x0D, 0x102}:
                values, at = struct.unpack_from("<I", data, at)[0], at + 4
            for place in range(min(values, len(data))):
                size = _FIXED.get(kind & 0xFFF, 0)
                if not size:
                    size, at = struct.unpack_from("<I", data, at)[0], at + 4
                value = data[at : at + size]
                if place == 0:
                    encoding = _TEXTS.get(kind & 0xFFF)
                    found[number] = value.decode(encoding, "replace").encode() if encoding else value
                at += -(-size // 4) * 4
                if at > len(data):
                    return found
    except struct.error:
        pass  # It is cut off here; what was found before counts.
    return found


def _text(data: bytes, source: Source) -> str:
    """Nothing, where it is no text: the files behind it are read all the same."""
    bare = data.rstrip(b"\0")
    with contextlib.suppress(UnreadableFile):
        return decode(bare, languages=source.languages).text if bare else ""
    return ""


TNEF = Kind("tnef", called=("TNEF",), parse=_parse, claims=lambda look: look.content.startswith(_SIGNATURE))
