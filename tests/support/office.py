"""Files as offices have them, in the fewest parts that make one: built here, so that no corpus is fetched."""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from html import escape

__all__ = ["compound", "docx", "eml", "epub", "msg", "odp", "ods", "odt", "pptx", "xlsx", "zipped"]

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_A = "http://schemas.openxmlformats.org/drawingml/2006/main"
_P = "http://schemas.openxmlformats.org/presentationml/2006/main"
_S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELS = "http://schemas.openxmlformats.org/package/2006/relationships"
_ODF = "urn:oasis:names:tc:opendocument:xmlns"
_SECTOR, _SMALL = 512, 64


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A ZIP archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def docx(body: str, **parts: str) -> bytes:
    """A Word document of this XML, in which ``w:`` is Word's; and other parts, by their name in ``word/``."""
    styles = "".join(f'<w:style w:styleId="H{level}"><w:name w:val="heading {level}"/></w:style>' for level in (1, 2))
    wrapped = {
        "word/document.xml": f'<w:document xmlns:w="{_W}"><w:body>{body}</w:body></w:document>',
        "word/styles.xml": f'<w:styles xmlns:w="{_W}">{styles}</w:styles>',
        **{f"word/{name}.xml": f'<w:{name} xmlns:w="{_W}">{part}</w:{name}>' for name, part in parts.items()},
    }
    return zipped(wrapped)


def pptx(slides: Sequence[tuple[str, str, str]]) -> bytes:
    """A presentation of slides, each with a title, a text and notes, stored in the opposite order."""
    count = len(slides)
    shape = (
        "<p:sp><p:nvSpPr><p:nvPr>{}</p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:txBody></p:sp>"
    )
    head = f'xmlns:p="{_P}" xmlns:a="{_A}" xmlns:r="{_R}"'
    files = {
        "ppt/presentation.xml": f"<p:presentation {head}>"
        + "".join(f'<p:sldId r:id="r{number}"/>' for number in range(count))
        + "</p:presentation>",
        "ppt/_rels/presentation.xml.rels": _relations({f"r{n}": f"slides/slide{count - n}.xml" for n in range(count)}),
    }
    for number, (title, text, notes) in enumerate(slides):
        name = f"slide{count - number}.xml"
        shapes = shape.format("", escape(text)) + shape.format('<p:ph type="title"/>', escape(title))
        files[f"ppt/slides/{name}"] = f"<p:sld {head}>{shapes}</p:sld>"
        files[f"ppt/slides/_rels/{name}.rels"] = _relations({"n": f"../notesSlides/n{number}.xml"})
        files[f"ppt/notesSlides/n{number}.xml"] = f"<p:notes {head}>{shape.format('', escape(notes))}</p:notes>"
    return zipped(files)


def xlsx(sheets: Mapping[str, Sequence[Sequence[str | float]]]) -> bytes:
    """A workbook of values; numbers in the column ``Since`` are dates."""
    named = "".join(f'<sheet name="{escape(n)}" sheetId="{i}" r:id="rId{i}"/>' for i, n in enumerate(sheets, 1))
    files = {
        "_rels/.rels": _relations({"r": "xl/workbook.xml"}, "officeDocument"),
        "xl/workbook.xml": f'<workbook xmlns="{_S}" xmlns:r="{_R}"><sheets>{named}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relations(
            {f"rId{i}": f"worksheets/sheet{i}.xml" for i in range(1, len(sheets) + 1)} | {"s": "styles.xml"},
            "worksheet",
        ).replace('Id="s" Type="' + _R + "/worksheet", 'Id="s" Type="' + _R + "/styles"),
        "xl/styles.xml": f'<styleSheet xmlns="{_S}"><cellXfs count="2">'
        '<xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
    }
    for number, rows in enumerate(sheets.values(), 1):
        files[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{_S}"><sheetData>'
            + "".join(
                f'<row r="{at}">'
                + "".join(_cell(f"{chr(65 + column)}{at}", value, rows[0][column]) for column, value in enumerate(row))
                + "</row>"
                for at, row in enumerate(rows, 1)
            )
            + "</sheetData></worksheet>"
        )
    return zipped(files)


def _cell(place: str, value: str | float, column: str | float) -> str:
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f'<c r="{place}" s="{1 if column == "Since" else 0}"><v>{value}</v></c>'


def _relations(targets: Mapping[str, str], kind: str = "other") -> str:
    made = "".join(f'<Relationship Id="{name}" Type="{_R}/{kind}" Target="{to}"/>' for name, to in targets.items())
    return f'<Relationships xmlns="{_RELS}">{made}</Relationships>'


def _opendocument(kind: str, body: str) -> bytes:
    spaces = " ".join(
        f'xmlns:{name}="{_ODF}:{name}:1.0"' for name in ("office", "text", "table", "presentation", "drawing")
    ).replace('xmlns:drawing="' + _ODF + ":drawing", 'xmlns:draw="' + _ODF + ":drawing")
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "META-INF/manifest.xml": f'<m:manifest xmlns:m="{_ODF}:manifest:1.0"/>',
            "content.xml": f"<office:document-content {spaces}><office:body>{body}</office:body>"
            "</office:document-content>",
        }
    )


def odt(body: str) -> bytes:
    """An OpenDocument text of this XML."""
    return _opendocument("text", f"<office:text>{body}</office:text>")


def odp(body: str) -> bytes:
    """An OpenDocument presentation of this XML."""
    return _opendocument("presentation", f"<office:presentation>{body}</office:presentation>")


def ods(rows: Sequence[Sequence[str]]) -> bytes:
    """An OpenDocument sheet."""
    lines = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{escape(v)}</text:p></table:table-cell>' for v in row
        )
        + "</table:table-row>"
        for row in rows
    )
    return _opendocument(
        "spreadsheet", f'<office:spreadsheet><table:table table:name="Staff">{lines}</table:table></office:spreadsheet>'
    )


def epub(chapters: Mapping[str, str]) -> bytes:
    """A book of chapters, each a page's body, read in this order and stored in the opposite one."""
    names = {name: f"text/{number}.xhtml" for number, name in enumerate(chapters)}
    items = "".join(f'<item id="{n}" href="{path}" media-type="application/xhtml+xml"/>' for n, path in names.items())
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfile full-path="book/book.opf"/></container>',
            "book/book.opf": f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>",
            **{
                f"book/{names[name]}": f'<?xml version="1.0" encoding="utf-8"?>\n<html><body>{body}</body></html>'
                for name, body in reversed(list(chapters.items()))
            },
        }
    )


def eml(subject: str, text: str, attachments: Mapping[str, bytes]) -> bytes:
    """A mail."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ada <ada@example.com>", "bob@example.com", subject
    message["Message-ID"] = "<1@example.com>"
    message.set_content(text)
    message.add_alternative(f"<style>p {{}}</style><p>{escape(text)}</p>", subtype="html")
    for name, content in attachments.items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def msg(subject: str, text: str, attachments: Mapping[str, bytes]) -> bytes:
    """A mail as Outlook keeps it."""
    files: dict[tuple[str, ...], bytes] = {
        ("__properties_version1.0",): bytes(32),
        ("__substg1.0_0037001F",): subject.encode("utf-16-le"),
        ("__substg1.0_0C1A001F",): "Ada".encode("utf-16-le"),
        ("__substg1.0_1000001F",): text.encode("utf-16-le"),
    }
    for number, (name, content) in enumerate(attachments.items()):
        folder = f"__attach_version1.0_#{number:08X}"
        files[folder, "__substg1.0_3707001F"] = name.encode("utf-16-le")
        files[folder, "__substg1.0_37010102"] = content
    return compound(files)


def compound(files: Mapping[tuple[str, ...], bytes]) -> bytes:
    """Microsoft's older container (MS-CFB), all of its files in the stream of small ones, so each under 4 KiB."""
    small = b"".join(content + bytes(-len(content) % _SMALL) for content in files.values())
    small_count = len(small) // _SMALL
    chain: list[int] = []
    entries: list[tuple[str, int, int, int, int, int]] = []  # name, type, right, child, start, size

    def level(prefix: tuple[str, ...]) -> int:
        names = sorted(
            {path[len(prefix)] for path in files if path[: len(prefix)] == prefix and len(path) > len(prefix)}
        )
        first = -1
        for name in reversed(names):
            path = (*prefix, name)
            child = -1 if path in files else level(path)
            entries.append(
                (name, 2 if path in files else 1, first, child, starts.get(path, 0), len(files.get(path, b"")))
            )
            first = len(entries)  # the root is entry 0
        return first

    starts: dict[tuple[str, ...], int] = {}
    for path, content in files.items():
        starts[path] = len(chain)
        sectors = max(-(-len(content) // _SMALL), 0)
        chain += [len(chain) + 1 + at for at in range(sectors - 1)] + ([-2] if sectors else [])
    root_child = level(())
    all_entries = [("Root Entry", 5, -1, root_child, 2, len(small)), *entries]
    directory = b"".join(_entry(*entry) for entry in all_entries)
    directory += bytes(-len(directory) % _SECTOR)
    mini_fat = struct.pack(f"<{small_count}i", *chain)
    mini_fat += b"\xff" * (-len(mini_fat) % _SECTOR)
    stream = small + bytes(-len(small) % _SECTOR)
    parts = [mini_fat, stream, directory]
    counts = [len(part) // _SECTOR for part in parts]
    fat = [-3]  # sector 0 is this table
    begins = []
    for count in counts:
        begins.append(len(fat))
        fat += [len(fat) + 1 + at for at in range(count - 1)] + [-2]
    fat += [-1] * (_SECTOR // 4 - len(fat))
    assert len(fat) == _SECTOR // 4, "too much for a table of one sector"
    all_entries[0] = ("Root Entry", 5, -1, root_child, begins[1], len(small))
    directory = b"".join(_entry(*entry) for entry in all_entries)
    directory += bytes(-len(directory) % _SECTOR)
    header = struct.pack(
        "<8s16sHHHHH6sIIiIIiIiI109i",
        *(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", bytes(16), 0x3E, 3, 0xFFFE, 9, 6, bytes(6), 0, 1, begins[2], 0, 4096),
        *(begins[0], counts[0], -2, 0, 0, *([-1] * 108)),
    )
    return header + struct.pack(f"<{len(fat)}i", *fat) + mini_fat + stream + directory


def _entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
    text = (name + "\0").encode("utf-16-le")
    return struct.pack(
        "<64sHBBiii16sIQQiQ", text, len(text), kind, 1, -1, right, child, bytes(16), 0, 0, 0, start, size
    )
