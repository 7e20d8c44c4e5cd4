"""XML and HTML as trees, read so that nothing in them reaches for anything: no entity is replaced, no DTD loaded, no
address fetched, and what is nested deeper than 256 levels ends there (libxml2's own limit)."""

import io
from collections.abc import Callable, Iterator
from typing import Any

from lxml import etree, html

from cloister_retriever.parsing.document import UnreadableFile

__all__ = ["Element", "children", "local", "parse_html", "parse_xml", "stream_xml"]

Element = Any
"""One of lxml's: it ships no types."""


def parse_xml(content: bytes) -> Element:
    """The root of an XML file, as far as it can be read.

    Raises:
        UnreadableFile: It is no XML.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=True,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise UnreadableFile("invalid_file", "The file is damaged: a part of it is no XML.") from error
    if root is None:
        raise UnreadableFile("invalid_file", "The file is damaged: a part of it is no XML.")
    return root


def stream_xml(content: bytes, *names: str, on_damage: Callable[[], None] = lambda: None) -> Iterator[Element]:
    """The elements of these names in an XML file, each when it has been read whole, and gone when the next is asked
    for: of a file of a million rows there is one at a time. At the end ``on_damage`` is told if something is missing.

    Raises:
        UnreadableFile: It is no XML.
    """
    elements = etree.iterparse(
        io.BytesIO(content),
        events=("end",),
        tag=[f"{{*}}{name}" for name in names],
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        recover=True,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        for _, element in elements:
            yield element
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
        if elements.error_log.filter_from_fatals():
            on_damage()
    except (etree.XMLSyntaxError, ValueError) as error:
        raise UnreadableFile("invalid_file", "The file is damaged: a part of it is no XML.") from error


def parse_html(text: str) -> Element | None:
    """The root of a page, or None if there is nothing in it."""
    parser = html.HTMLParser(
        no_network=True, remove_comments=True, remove_pis=True, huge_tree=False, recover=True, encoding="utf-8"
    )
    try:
        return html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return None


def children(element: Element) -> Iterator[Element]:
    """The elements in ``element``: no entity that was left, no instruction."""
    return (child for child in element if isinstance(child.tag, str))


def local(element: Element) -> str:
    """An element's name without its namespace."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
