"""HTML: what a reader sees of a page."""

import re

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.pages import embedded, write_page

__all__ = ["HTML", "declared_encoding"]

_PAGES = ("html", "!doctype html", "head", "body")
_PARTS = ("title", "meta", "script", "style", "link")
"""What a page may begin with, and Markdown too."""

_MARKDOWN = (".md", ".markdown", ".mdown", ".mkd", ".mdx")
_NAMES = (".html", ".htm", ".xhtml", ".shtml")
_DECLARED = re.compile(rb"""(?:charset|encoding)[ \t]{0,9}=[ \t]{0,9}["']?([A-Za-z0-9._:-]{1,40})""", re.IGNORECASE)
_DECLARED_WITHIN = 4096


def declared_encoding(content: bytes) -> str | None:
    """What a page's beginning says of its encoding."""
    found = _DECLARED.search(content[:_DECLARED_WITHIN])
    return None if found is None else found[1].decode("ascii")


def _parse(source: Source) -> Document:
    decoded = decode(source.content, declared=declared_encoding(source.content), languages=source.languages)
    writer = Writer(source.max_text_bytes)
    if decoded.note is not None:
        writer.note(decoded.note)
    if not write_page(writer, decoded.text, picture_of=lambda address: _embedded(source, address)):
        raise UnreadableFile("invalid_file", "The page has no text.")
    return writer.document()


def _embedded(source: Source, address: str) -> int | None:
    content = embedded(address) if source.album.takes_any else None
    return None if content is None else source.album.take(content)


def _claims(look: Look) -> bool:
    if look.is_binary:
        return False
    start = _behind_comments(look.head)
    if start[:1] != b"<":
        return False
    tag = start[1:64].lower().decode("ascii", "replace")
    for name in _PAGES if look.name.endswith(_MARKDOWN) else _PAGES + _PARTS:
        if tag.startswith(name) and not tag[len(name) : len(name) + 1].isalnum():
            return True
    return look.name.endswith(_NAMES) and (tag[:1].isalpha() or tag[:1] == "!")


def _behind_comments(head: bytes) -> bytes:
    """What begins behind blanks, comments and what XML says of itself. Each step goes forward, none is taken twice."""
    at = 0
    while True:
        while at < len(head) and head[at] in b" \t\r\n\x0c":
            at += 1
        if head.startswith(b"<!--", at):
            end = head.find(b"-->", at + len(b"<!--"))
            past = end + len(b"-->")
        elif head.startswith(b"<?xml", at):
            end = head.find(b">", at)
            past = end + 1
        else:
            return head[at:]
        if end < 0:
            return b""
        at = past


HTML = Kind("html", called=("HTML",), parse=_parse, claims=_claims)
