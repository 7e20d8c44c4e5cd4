"""EPUB: the chapters of a book in the order in which they are read."""

import posixpath
import urllib.parse

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.html import declared_encoding
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.markup import local, parse_xml
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.pages import write_page

__all__ = ["EPUB"]

_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})


def _parse(source: Source) -> Document:
    package = Package(source.content)
    if "META-INF/encryption.xml" in package and b"EncryptedKey" in package.read("META-INF/encryption.xml"):
        raise UnreadableFile("invalid_file", "The book is encrypted. Upload a copy without copy protection.")
    writer = Writer(source.max_text_bytes)
    for part in _chapters(package):
        content = package.read(part)
        write_page(writer, decode(content, declared=declared_encoding(content), languages=source.languages).text)
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The book has no text.")
    return writer.document()


def _chapters(package: Package) -> list[str]:
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
