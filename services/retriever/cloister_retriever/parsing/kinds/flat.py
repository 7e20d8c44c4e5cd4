"""Office files that are one XML file: OpenDocument's flat ones, Office's "flat OPC", and those of Word and Excel 2003.

All but Excel's are put into the container that the same file has otherwise, and read as that.
"""

import base64
import datetime
import io
import zipfile
from collections.abc import Iterator

from lxml import etree

from cloister_retriever.parsing.decoding import wide_marked
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.markup import Element, children, local, parse_xml
from cloister_retriever.parsing.number_formats import GENERAL, shown, shown_text
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.sheets import Merged, Row, Sheet, write_sheets
from cloister_retriever.parsing.word_2003 import WORD_2003, word_parts

__all__ = ["FLAT"]

_OFFICE = b"http://schemas.microsoft.com/office/2006/xmlPackage"
_OPEN = b"urn:oasis:names:tc:opendocument:xmlns:office:1.0"
_EXCEL = b"urn:schemas-microsoft-com:office:spreadsheet"
_SPACES = (_OFFICE, _OPEN, _EXCEL, WORD_2003.encode())
_ROOTS = frozenset({"package", "document", "Workbook", "wordDocument"})
_LINK = "{http://www.w3.org/1999/xlink}href"
_ROOT_WITHIN = 4096
_LONGEST_PATH = 1_000
_NAMED_FORMATS = {
    "Percent": "0.00%",
    "Fixed": "0.00",
    "Standard": "#,##0.00",
    "Scientific": "0.00E+00",
    "Currency": "#,##0.00",
    "Short Date": "yyyy-mm-dd",
    "General Date": "yyyy-mm-dd hh:mm",
    "Long Date": "yyyy-mm-dd",
    "Medium Date": "d-mmm-yy",
    "Short Time": "hh:mm",
    "Medium Time": "h:mm AM/PM",
    "Long Time": "hh:mm:ss",
}
"""Formats that have a name in Excel's files of 2003."""

_EPOCH = datetime.datetime(1899, 12, 30)  # noqa: DTZ001 - what a cell shows has no zone


def _parse(source: Source) -> Document:
    root = parse_xml(wide_marked(source.content))
    name = local(root)
    if name == "Workbook":
        writer = Writer(source.max_text_bytes)
        write_sheets(writer, _sheets(root))
        if writer.is_empty:
            raise UnreadableFile("invalid_file", "The spreadsheet has no text.")
        return writer.document()
    if source.read is None:
        raise UnreadableFile("invalid_file", "Files within files within files are not read so deep.")
    parts = {"package": _parts, "document": _open_parts, "wordDocument": word_parts}[name]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as container:
        for path, content in parts(root):
            container.writestr(path, content)
    return source.read(out.getvalue(), source.name)


def _parts(root: Element) -> Iterator[tuple[str, bytes]]:
    types: dict[str, str] = {}
    for part in children(root):
        path = next((value for key, value in part.attrib.items() if key.endswith("}name")), "")
        kind = next((value for key, value in part.attrib.items() if key.endswith("}contentType")), "")
        path = path.lstrip("/")
        if not 0 < len(path) <= _LONGEST_PATH or path in types:
            continue
        types[path] = kind
        for held in children(part):
            if local(held) == "xmlData":
                yield path, b"".join(etree.tostring(one, with_tail=False) for one in children(held))
            elif local(held) == "binaryData":
                try:
                    yield path, base64.b64decode(held.text or "")
                except ValueError:
                    continue
    listed = etree.Element("Types")
    for path, kind in types.items():
        etree.SubElement(listed, "Override", PartName=f"/{path}", ContentType=kind)
    yield "[Content_Types].xml", etree.tostring(listed)


def _open_parts(root: Element) -> Iterator[tuple[str, bytes]]:
    kind = next((value for key, value in root.attrib.items() if key.endswith("}mimetype")), "")
    yield "mimetype", kind.encode()
    for number, held in enumerate(one for one in root.iter() if local(one) == "binary-data"):
        try:
            content = base64.b64decode(held.text or "")
        except ValueError:
            continue
        held.text = None
        held.getparent().set(_LINK, f"Pictures/{number}")
        yield f"Pictures/{number}", content
    content = etree.tostring(root)
    # One file has the margins too, which the container has in another of its parts.
    yield "styles.xml", content
    yield "content.xml", content


def _sheets(root: Element) -> Iterator[Sheet]:
    formats: dict[str, str] = {}
    for style in (one for one in root.iter() if local(one) == "Style"):
        said = next((_value(one, "Format") for one in children(style) if local(one) == "NumberFormat"), "") or GENERAL
        formats[_value(style, "ID")] = _NAMED_FORMATS.get(said, said)
    for worksheet in (one for one in children(root) if local(one) == "Worksheet"):
        hidden = any(local(one) == "Visible" and one.text != "SheetVisible" for one in worksheet.iter())
        sheet = Sheet(_value(worksheet, "Name"), is_hidden=hidden)
        sheet.rows = _rows(worksheet, formats, sheet)
        yield sheet


def _rows(worksheet: Element, formats: dict[str, str], sheet: Sheet) -> Iterator[Row]:
    number = -1
    for row in (one for one in worksheet.iter() if local(one) == "Row"):
        number = _index(row, number)
        cells: dict[int, str] = {}
        column = -1
        for cell in (one for one in children(row) if local(one) == "Cell"):
            column = _index(cell, column)
            if text := _shown(cell, formats.get(_value(cell, "StyleID"), GENERAL)):
                cells[column] = text
            if (high := _value(cell, "MergeDown")).isdecimal():
                sheet.merged.append(Merged(number, number + int(high[:7]), column))
            across = _value(cell, "MergeAcross")
            column += int(across[:5]) if across.isdecimal() else 0
        yield Row(number, cells, hidden=_value(row, "Hidden") == "1")


def _index(element: Element, last: int) -> int:
    """Its number, from 0: what it says, or the next."""
    said = _value(element, "Index")
    return int(said) - 1 if said.isdecimal() and 0 < len(said) < 8 else last + 1


def _shown(cell: Element, code: str) -> str:
    data = next((one for one in children(cell) if local(one) == "Data"), None)
    if data is None:
        return ""
    text, kind = "".join(data.itertext()), _value(data, "Type")
    try:
        if kind == "Number":
            return shown(float(text), code)
        if kind == "DateTime":
            since = datetime.datetime.fromisoformat(text).replace(tzinfo=None) - _EPOCH
            return shown(since / datetime.timedelta(days=1), "yyyy-mm-dd" if code == GENERAL else code)
    except ValueError:
        return text
    if kind == "Boolean":
        return "TRUE" if text == "1" else "FALSE"
    return shown_text(text, code)


def _value(element: Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _claims(look: Look) -> bool:
    """By the outermost element and its namespace: a page may speak of these."""
    if look.is_binary or look.head.lstrip()[:1] != b"<" or not any(space in look.head for space in _SPACES):
        return False
    parser = etree.XMLPullParser(events=("start",), resolve_entities=False, no_network=True, load_dtd=False)
    try:
        parser.feed(look.head[:_ROOT_WITHIN])
        root = next((element for _, element in parser.read_events()), None)
    except etree.XMLSyntaxError:
        return False
    if root is None or local(root) not in _ROOTS:
        return False
    return root.tag.encode().removeprefix(b"{").partition(b"}")[0] in _SPACES


FLAT = Kind("flat", called=("FODT", "FODS", "FODP", "Office XML"), parse=_parse, claims=_claims)
