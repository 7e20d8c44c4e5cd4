"""Workbooks cell by cell, with formats, merged and hidden cells, in the four ways that spreadsheets are kept."""

import struct
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from tests.support.office import compound, zipped

__all__ = ["Cell", "excel", "excel_97", "excel_binary", "opendocument"]

_S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELS = "http://schemas.openxmlformats.org/package/2006/relationships"
_ODF = "urn:oasis:names:tc:opendocument:xmlns"


class Cell(NamedTuple):
    """What a cell holds and in which format: the value as Excel keeps it."""

    place: str
    value: float | str | bool
    format: str = "General"


def relationships(targets: Mapping[str, tuple[str, str]], space: str = _R) -> str:
    """Relations by their ids: kind and target."""
    made = "".join(f'<Relationship Id="{i}" Type="{space}/{kind}" Target="{to}"/>' for i, (kind, to) in targets.items())
    return f'<Relationships xmlns="{_RELS}">{made}</Relationships>'


def excel(
    sheets: Mapping[str, str | Sequence[Cell]],
    *,
    part: str = "xl/workbook.xml",
    states: Mapping[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
    since_1904: bool = False,
    doctype: str = "",
    space: str = _S,
    related: str = _R,
) -> bytes:
    """XLSX. A sheet is its cells, or the XML within ``worksheet``, of the document type if there is one."""
    codes = sorted({cell.format for cells in sheets.values() if not isinstance(cells, str) for cell in cells})
    formats = "".join(f'<numFmt numFmtId="{164 + at}" formatCode="{escape(code)}"/>' for at, code in enumerate(codes))
    styles = "".join(f'<xf numFmtId="{164 + at}"/>' for at in range(len(codes)))
    named = "".join(
        f'<sheet name="{escape(name)}" sheetId="{at}" state="{(states or {}).get(name, "visible")}" r:id="r{at}"/>'
        for at, name in enumerate(sheets)
    )
    folder, _, name = part.rpartition("/")
    files = {
        "[Content_Types].xml": f'<Types><Override PartName="/{part}" ContentType="application/vnd.openxmlformats-'
        'officedocument.spreadsheetml.sheet.main+xml"/></Types>',
        "_rels/.rels": relationships({"r": ("officeDocument", part)}, related),
        part: f'<workbook xmlns="{space}" xmlns:r="{related}"><workbookPr date1904="{int(since_1904)}"/>'
        f"<sheets>{named}</sheets></workbook>",
        f"{folder}/_rels/{name}.rels": relationships(
            {f"r{at}": ("worksheet", f"sheet{at}.xml") for at in range(len(sheets))} | {"s": ("styles", "s.xml")},
            related,
        ),
        f"{folder}/s.xml": f'<styleSheet xmlns="{space}"><numFmts>{formats}</numFmts><cellXfs>{styles}</cellXfs>'
        "</styleSheet>",
        **(extra or {}),
    }
    for at, cells in enumerate(sheets.values()):
        inner = cells if isinstance(cells, str) else f"<sheetData>{_xml_rows(cells, codes)}</sheetData>"
        begin = f"<!DOCTYPE d [{doctype}]>" if doctype else ""
        files[f"{folder}/sheet{at}.xml"] = f'{begin}<worksheet xmlns="{space}">{inner}</worksheet>'
    return zipped(files)


def _xml_rows(cells: Sequence[Cell], codes: Sequence[str]) -> str:
    rows: dict[int, list[str]] = {}
    for cell in cells:
        style = codes.index(cell.format)
        if isinstance(cell.value, bool):
            made = f'<c r="{cell.place}" s="{style}" t="b"><v>{int(cell.value)}</v></c>'
        elif isinstance(cell.value, str):
            kind, holder = ("e", "v") if cell.value.startswith("#") else ("inlineStr", "is")
            text = escape(cell.value) if kind == "e" else f"<t>{escape(cell.value)}</t>"
            made = f'<c r="{cell.place}" s="{style}" t="{kind}"><{holder}>{text}</{holder}></c>'
        else:
            made = f'<c r="{cell.place}" s="{style}"><v>{cell.value!r}</v></c>'
        rows.setdefault(_place(cell.place)[0], []).append(made)
    return "".join(f'<row r="{row + 1}">{"".join(made)}</row>' for row, made in sorted(rows.items()))


def excel_binary(cells: Sequence[Cell]) -> bytes:
    """XLSB, of one sheet that is called Sheet."""
    codes = sorted({cell.format for cell in cells})
    styles = b"".join(_record(44, struct.pack("<H", 164 + at) + _wide(code)) for at, code in enumerate(codes))
    styles += _record(617, bytes(4))
    styles += b"".join(_record(47, struct.pack("<HH", 0, 164 + at) + bytes(12)) for at in range(len(codes)))
    styles += _record(618, b"")
    sheet, row = b"", -1
    for cell in sorted(cells, key=lambda one: _place(one.place)):
        at, column = _place(cell.place)
        if at != row:
            sheet, row = sheet + _record(0, struct.pack("<IIHB", at, 0, 300, 0) + bytes(6)), at
        head = struct.pack("<II", column, codes.index(cell.format))
        if isinstance(cell.value, bool):
            sheet += _record(4, head + bytes([cell.value]))
        elif isinstance(cell.value, str):
            sheet += _record(3, head + b"\x07") if cell.value.startswith("#") else _record(6, head + _wide(cell.value))
        else:
            sheet += _record(5, head + struct.pack("<d", cell.value))
    return zipped(
        {
            "_rels/.rels": relationships({"r": ("officeDocument", "xl/workbook.bin")}),
            "xl/workbook.bin": _record(156, struct.pack("<II", 0, 1) + _wide("r0") + _wide("Sheet")),
            "xl/_rels/workbook.bin.rels": relationships({"r0": ("worksheet", "s.bin"), "s": ("styles", "styles.bin")}),
            "xl/s.bin": sheet,
            "xl/styles.bin": styles,
        }
    )


def _record(kind: int, data: bytes) -> bytes:
    number = bytes([kind]) if kind < 128 else bytes([kind & 0x7F | 0x80, kind >> 7])
    size, length = b"", len(data)
    while length >= 128:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return number + size + bytes([length]) + data


def _wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def excel_97(cells: Sequence[Cell]) -> bytes:
    """XLS (BIFF8), of one sheet that is called Sheet."""
    codes = sorted({cell.format for cell in cells})

    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    begin = struct.pack("<HHHHII", 0x0600, 0x0005, 0x0DBB, 0x07CC, 0, 6)
    book = record(0x0809, begin)
    for at, code in enumerate(codes):
        book += record(0x041E, struct.pack("<HHB", 164 + at, len(code), 1) + code.encode("utf-16-le"))
    for at in range(len(codes)):
        book += record(0x00E0, struct.pack("<HHH", 0, 164 + at, 1) + bytes(14))
    sheet = record(0x0809, begin[:2] + struct.pack("<H", 0x0010) + begin[4:])
    for cell in sorted(cells, key=lambda one: _place(one.place)):
        head = struct.pack("<HHH", *_place(cell.place), codes.index(cell.format))
        if isinstance(cell.value, bool):
            sheet += record(0x0205, head + bytes([cell.value, 0]))
        elif isinstance(cell.value, str) and cell.value.startswith("#"):
            sheet += record(0x0205, head + b"\x07\x01")
        elif isinstance(cell.value, str):
            sheet += record(0x0204, head + struct.pack("<HB", len(cell.value), 1) + cell.value.encode("utf-16-le"))
        else:
            sheet += record(0x0203, head + struct.pack("<d", cell.value))
    sheet += record(0x000A, b"")
    name = b"\x05\x00Sheet"
    at = len(book) + 4 + 6 + len(name) + 4
    book += record(0x0085, struct.pack("<IH", at, 0) + name) + record(0x000A, b"")
    return compound({("Workbook",): book + sheet})


def opendocument(tables: str, styles: str = "") -> bytes:
    """ODS of this XML, in which ``table:``, ``text:``, ``office:`` and ``style:`` are OpenDocument's."""
    spaces = " ".join(f'xmlns:{name}="{_ODF}:{name}:1.0"' for name in ("office", "text", "table", "style"))
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": f"<office:document-content {spaces}><office:automatic-styles>{styles}"
            f"</office:automatic-styles><office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body>"
            "</office:document-content>",
        }
    )


def _place(name: str) -> tuple[int, int]:
    letters = name.rstrip("0123456789")
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - ord("A") + 1
    return int(name[len(letters) :]) - 1, column - 1
