"""MSG: Outlook's mail, out of the container that it keeps it in (MS-OXMSG), with the files that came with it."""

import datetime
import io
import struct
from typing import NamedTuple

import compressed_rtf
import olefile

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.html import declared_encoding
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.letters import Enclosure, begin_letter, write_enclosures
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.pages import write_page
from cloister_retriever.parsing.richtext import write_rich_text
from cloister_retriever.parsing.rtf_html import html_within

__all__ = ["OUTLOOK"]

_SUBJECT, _BODY, _HTML, _RTF = "0037", "1000", "1013", "1009"
_FIELDS = (("From", ("0C1A", "5D01", "0C1F")), ("To", ("0E04",)), ("Cc", ("0E03",)))
_DATA, _LONG_NAME, _SHORT_NAME, _SHOWN_NAME = "3701", "3707", "3704", "3001"
_SENT, _DELIVERED, _CODEPAGE = 0x0039, 0x0E06, 0x3FFD
_PROPERTIES = "__properties_version1.0"
_HEADER_BYTES, _INNER_HEADER_BYTES = 32, 24
_EPOCH = datetime.datetime(1601, 1, 1, tzinfo=datetime.UTC)
_MOST_RTF = 64 * 1024 * 1024
_MOST_ATTACHMENTS = 1_000
_DEEPEST = 5


class _Message(NamedTuple):
    """A mail in a container: the whole, or one that came with another."""

    ole: olefile.OleFileIO
    path: tuple[str, ...] = ()

    def data(self, tag: str, kind: str) -> bytes | None:
        name = [*self.path, f"__substg1.0_{tag}{kind}"]
        if self.ole.exists(name) and self.ole.get_type(name) == olefile.STGTY_STREAM:
            with self.ole.openstream(name) as stream:
                return bytes(stream.read())
        return None

    def text(self, *tags: str) -> str:
        """The first of these properties that has text."""
        for tag in tags:
            if (wide := self.data(tag, "001F")) is not None:
                found = wide.decode("utf-16-le", "replace")
            elif (narrow := self.data(tag, "001E")) is not None:
                codepage = self.numbers().get(_CODEPAGE, 1252) & 0xFFFF
                found = decode(narrow, declared=f"cp{codepage}").text if narrow.strip(b"\0") else ""
            else:
                continue
            if found.strip("\0 \r\n"):
                return found.rstrip("\0")
        return ""

    def numbers(self) -> dict[int, int]:
        """The properties of fixed length, by their number."""
        name = [*self.path, _PROPERTIES]
        if not self.ole.exists(name):
            return {}
        with self.ole.openstream(name) as stream:
            entries = stream.read()[_INNER_HEADER_BYTES if self.path else _HEADER_BYTES :]
        return {
            tag >> 16: value
            for tag, _, value in struct.iter_unpack("<IIQ", entries[: len(entries) - len(entries) % 16])
        }


def _parse(source: Source) -> Document:
    writer = Writer(source.max_text_bytes)
    try:
        with olefile.OleFileIO(io.BytesIO(source.content)) as ole:
            enclosures = _write(writer, _Message(ole), source, _DEEPEST)
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise UnreadableFile("invalid_file", "The mail is damaged and cannot be opened.") from error
    write_enclosures(writer, source, enclosures, called="Attachment")
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The mail has no text.")
    return writer.document()


def _write(writer: Writer, message: _Message, source: Source, deepest: int) -> list[Enclosure]:
    """Writes a mail and those within it; returns the files that came with it."""
    numbers = message.numbers()
    sent = numbers.get(_SENT) or numbers.get(_DELIVERED)
    date = (
        "" if not sent else (_EPOCH + datetime.timedelta(microseconds=min(sent // 10, 2**57))).isoformat(" ", "minutes")
    )
    fields = [(name, message.text(*tags)) for name, tags in _FIELDS]
    begin_letter(writer, message.text(_SUBJECT), [*fields, ("Date", date)])
    _write_words(writer, message, source)
    enclosures: list[Enclosure] = []
    depth = len(message.path)
    names = {
        entry[depth]
        for entry in message.ole.listdir(streams=True, storages=True)
        if tuple(entry[:depth]) == message.path
        and len(entry) > depth
        and entry[depth].startswith("__attach_version1.0_#")
    }
    for name in sorted(names)[:_MOST_ATTACHMENTS]:
        attachment = _Message(message.ole, (*message.path, name))
        within = (*attachment.path, f"__substg1.0_{_DATA}000D")
        if (data := attachment.data(_DATA, "0102")) is not None:
            enclosures.append(Enclosure(attachment.text(_LONG_NAME, _SHORT_NAME, _SHOWN_NAME), data))
        elif message.ole.exists(list(within)) and deepest:
            enclosures += _write(writer, _Message(message.ole, within), source, deepest - 1)
    return enclosures


def _write_words(writer: Writer, message: _Message, source: Source) -> None:
    """The mail's text: as such, else out of HTML, else out of RTF, in which Outlook wraps either."""
    if plain := message.text(_BODY):
        writer.paragraph(plain)
        return
    page = message.data(_HTML, "0102")
    if page:
        decoded = decode(page, declared=declared_encoding(page), languages=source.languages)
        if write_page(writer, decoded.text, level=1):
            return
    packed = message.data(_RTF, "0102")
    if packed and len(packed) >= 16:
        if int.from_bytes(packed[4:8], "little") > _MOST_RTF:
            raise UnreadableFile("invalid_file", "The mail holds far more than its size lets expect.")
        rich = bytes(compressed_rtf.decompress(packed))
        within = html_within(rich)
        if within is None or not write_page(writer, within, level=1):
            write_rich_text(writer, rich)


OUTLOOK = Kind("outlook", called=("MSG",), parse=_parse, claims=lambda look: look.package == "msg")
