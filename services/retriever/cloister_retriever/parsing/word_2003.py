"""Word's one XML file of 2003, put into the parts that a Word document has since: the words are in the same elements,
and what has parts of its own by now (pictures, notes, comments, margins) stands where it is seen."""

import base64
from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree

from cloister_retriever.parsing.markup import Element, local

__all__ = ["WORD_2003", "word_parts"]

WORD_2003 = "http://schemas.microsoft.com/office/word/2003/wordml"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_W = f"{{{WORD_2003}}}"
_MARGINS = {"hdr": "header", "ftr": "footer"}
_NOTES = {"footnote": "footnotes", "endnote": "endnotes"}
_COMMENT = "Word.Comment"


class _Part(NamedTuple):
    kind: str
    path: str
    content: bytes


def word_parts(root: Element) -> Iterator[tuple[str, bytes]]:
    """The parts that the same document has as DOCX, by their paths. ``root`` is taken apart."""
    parts: list[_Part] = []
    _take_pictures(root, parts)
    _take_margins(root, parts)
    _take_asides(root, parts)
    for marked in list(root.iter(f"{_W}listPr")):
        marked.tag = f"{_W}numPr"
    styles = next(root.iter(f"{_W}styles"), None)
    if styles is not None:
        parts.append(_Part("styles", "styles.xml", _renamed(styles)))
    body = next(root.iter(f"{_W}body"), root)
    yield "word/document.xml", _renamed(body)
    listed = etree.Element(f"{{{_RELATIONS}}}Relationships")
    for number, part in enumerate(parts):
        yield f"word/{part.path}", part.content
        etree.SubElement(listed, "Relationship", Id=f"r{number}", Type=f"{_OFFICE}/{part.kind}", Target=part.path)
    yield "word/_rels/document.xml.rels", etree.tostring(listed)


def _take_pictures(root: Element, parts: list[_Part]) -> None:
    """A picture's bytes are beside the shape that shows it, which says their name."""
    named: dict[str, str] = {}
    for held in list(root.iter(f"{_W}binData")):
        try:
            content = base64.b64decode(held.text or "")
        except ValueError:
            continue
        finally:
            held.text = None
        named[held.get(f"{_W}name", "")] = f"r{len(parts)}"
        parts.append(_Part("image", f"media/{len(parts)}", content))
    for shown in (one for one in root.iter() if local(one) == "imagedata"):
        if (number := named.get(shown.get("src", ""))) is not None:
            shown.set(f"{{{_OFFICE}}}id", number)


def _take_margins(root: Element, parts: list[_Part]) -> None:
    for name, kind in _MARGINS.items():
        # What is in another is taken first, so that nothing is written twice.
        found = [_renamed(_emptied(margin)) for margin in reversed(list(root.iter(f"{_W}{name}")))]
        for content in reversed(found):
            parts.append(_Part(kind, f"{kind}{len(parts)}.xml", content))


def _take_asides(root: Element, parts: list[_Part]) -> None:
    for name, kind in _NOTES.items():
        found = etree.Element(f"{_W}{kind}")
        found.extend([_emptied(note) for note in list(root.iter(f"{_W}{name}"))])
        parts.append(_Part(kind, f"{kind}.xml", _renamed(found)))
    comments = etree.Element(f"{_W}comments")
    said = [one for one in root.iter() if local(one) == "annotation" and _COMMENT in one.attrib.values()]
    for comment in map(_emptied, said):
        comment.tag = f"{_W}comment"
        comments.append(comment)
    parts.append(_Part("comments", "comments.xml", _renamed(comments)))


def _emptied(element: Element) -> Element:
    """What an element is and holds. It stays where it stands, with nothing in it: taking out thousands that stand in
    one paragraph would write the words behind them anew each time."""
    taken = etree.Element(element.tag, dict(element.attrib), nsmap=element.nsmap)
    taken.text, element.text = element.text, None
    taken.extend(list(element))
    return taken


def _renamed(element: Element) -> bytes:
    """As it is written since: in another namespace, and nothing else is of the earlier one in these elements."""
    return bytes(etree.tostring(element, with_tail=False)).replace(WORD_2003.encode(), _WORD.encode())
