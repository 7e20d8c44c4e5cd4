"""EPUB: the chapters of a book in the order in which they are read."""

import posixpath
import urllib.parse
from functools import partial

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.html import declared_encoding
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.markup import local, parse_xml
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.pages import embedded, write_page

__all__ = ["EPUB"]

_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})


def _parse(source: Source) -> Document:
    package = Package(source.content)
    chapters = _chapters(package)
    if not _encrypted(package).isdisjoint(chapters):
        raise UnreadableFile("invalid_file", "The book is encrypted. Upload a copy without copy protection.")
    writer = Writer(source.max_text_bytes)
    for part in source.counted(chapters):
        content = package.read(part)
        text = decode(content, declared=declared_encoding(content), languages=source.languages).text
        write_page(writer, text, picture_of=partial(_picture, package, source, part))
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The book has no text.")
    return writer.document()


def _picture(package: Package, source: Source, chapter: str, address: str) -> int | None:
    """The picture at an address in a chapter."""
    if not source.album.takes_any:
        return None
    content = embedded(address)
    if content is None:
        path = urllib.parse.unquote(address.partition("#")[0].partition("?")[0])
        part = posixpath.normpath(posixpath.join(posixpath.dirname(chapter), path))
        content = package.read(part) if part in package else None
    return None if content is None else source.album.take(content)


def _encrypted(package: Package) -> set[str]:
    """The parts that cannot be read: of most books that have some they are fonts."""
    if "META-INF/encryption.xml" not in package:
        return set()
    parts = parse_xml(package.read("META-INF/encryption.xml")).iter()
    return {urllib.parse.unquote(one.get("URI", "")) for one in parts if local(one) == "CipherReference"}


def _chapters(package: Package) -> list[str]:
    if "META-INF/container.xml" not in package:
        raise UnreadableFile("invalid_file", "The book is damaged: it does not say what its chapters are.")
    container = parse_xml(package.read("META-INF/container.xml"))
    root = next((one.get("full-path", "") for one in container.iter() if local(one) == "rootfile"), "")
    if root not in package:
        raise UnreadableFile("invalid_file", "The book is damaged: it does not say what its chapters are.")
    book = parse_xml(package.read(root))
    folder = posixpath.dirname(root)
    items = {
        item.get("id"): posixpath.normpath(posixpath.join(folder, urllib.parse.unquote(item.get("href", ""))))
        for item in book.iter()
        if local(item) == "item" and item.get("media-type") in _PAGES
    }
    spine = (items.get(one.get("idref")) for one in book.iter() if local(one) == "itemref")
    return [part for part in dict.fromkeys(spine) if part is not None and part in package]


EPUB = Kind("epub", called=("EPUB",), parse=_parse, claims=lambda look: look.package == "epub")
