"""Forms in XFA, Adobe's own, in PDFs: XML beside the pages, which show none of it, or what another program made of it.

The values are in the packet ``datasets``, the words around them in ``template`` (XFA specification 3.3, chapter 4).
"""

import ctypes
from collections.abc import Iterator
from typing import NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.markup import Element, children, local, parse_xml

__all__ = ["XfaForm", "xfa_form"]

_MOST_PACKETS = 100
_MOST_BYTES = 32 * 1024 * 1024
_MOST_VALUES = 10_000


class XfaForm(NamedTuple):
    """What a form says, and what was filled in: each value with the words before it, or the name of its field."""

    words: list[str]
    values: list[tuple[str, str]]


def xfa_form(pdf: pypdfium2.PdfDocument) -> XfaForm | None:
    """The form, or None where it cannot be read."""
    try:
        roots = [parse_xml(packet) for packet in _packets(pdf)]
    except UnreadableFile:
        return None
    template = _first(roots, "template")
    data = _first(roots, "data")
    if template is None and data is None:
        return None
    words: list[str] = []
    captions: dict[str, str] = {}
    for element in () if template is None else template.iter():
        if local(element) == "draw":
            words.append(_said(element, "value"))
        elif local(element) in {"field", "exclGroup"} and (caption := _said(element, "caption")):
            captions.setdefault(element.get("name", ""), caption)
    values = () if data is None else _values(data)
    found = [(captions.get(name, name), value) for _, (name, value) in zip(range(_MOST_VALUES), values, strict=False)]
    return XfaForm([text for text in words if text], found)


def _packets(pdf: pypdfium2.PdfDocument) -> Iterator[bytes]:
    """The parts that have the template and the data. A form may be one part, without a name."""
    for number in range(min(pdfium.FPDF_GetXFAPacketCount(pdf.raw), _MOST_PACKETS)):
        name = ctypes.create_string_buffer(64)
        pdfium.FPDF_GetXFAPacketName(pdf.raw, number, name, len(name))
        if name.value not in {b"", b"datasets", b"template"}:
            continue
        length = ctypes.c_ulong()
        pdfium.FPDF_GetXFAPacketContent(pdf.raw, number, None, 0, length)
        if not 0 < length.value <= _MOST_BYTES:
            continue
        content = ctypes.create_string_buffer(length.value)
        if pdfium.FPDF_GetXFAPacketContent(pdf.raw, number, content, len(content), length):
            yield content.raw


def _first(roots: list[Element], name: str) -> Element | None:
    return next((one for root in roots for one in root.iter() if local(one) == name), None)


def _values(element: Element) -> Iterator[tuple[str, str]]:
    """What has text and nothing in it. A rich text has XHTML in it, and is one value; a picture has none. libxml2
    bounds how deep this goes."""
    if any(key.endswith("contentType") and value.startswith("image/") for key, value in element.attrib.items()):
        return
    inner = list(children(element))
    if inner and local(inner[0]) != "body":
        for child in inner:
            yield from _values(child)
    elif text := " ".join("".join(element.itertext()).split()):
        yield local(element), text


def _said(element: Element, part: str) -> str:
    """The words in the parts of this name that an element has itself."""
    texts = ("".join(one.itertext()) for one in children(element) if local(one) == part)
    return " ".join(" ".join(texts).split())
