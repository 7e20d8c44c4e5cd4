"""The smallest file of each kind: read once before the filter is set, so that every library has loaded all of itself.

Behind the filter nothing can be opened, and so no module imported and no codec or model of a language looked up.
"""

import io
import zipfile
from collections.abc import Iterator

from PIL import Image

__all__ = ["samples"]

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGES = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "urn:oasis:names:tc:opendocument:xmlns"

_PLAIN: dict[str, bytes] = {
    "a.txt": b"caf\xe9 na\xefve",
    "b.txt": "\u0437\u0430\u043f\u0438\u0441\u044c".encode("koi8-r"),
    "c.txt": b"\x1b$B4A\x1b(B",
    "d.txt": "ab".encode("utf-16-le"),
    "a.md": b"# a *b*\n\n- `c`\n",
    "a.html": b"<html><title>a</title><p>a &amp; b<table><tr><td>a<td>b</table>",
    "a.csv": b"a,b\n1,2\n",
    "a.rtf": rb"{\rtf1\ansi a\par}",
    "a.ipynb": b'{"nbformat":4,"cells":[{"cell_type":"markdown","source":["a"]}]}',
    "a.vcf": b"BEGIN:VCARD\r\nNOTE;ENCODING=QUOTED-PRINTABLE:=C3=A4\r\nEND:VCARD\r\n",
    "a.eml": (
        b"From: a@example.com\nSubject: =?utf-8?q?a?=\nDate: Mon, 1 Jan 2024 10:00:00 +0000\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/mixed; boundary="x"\n\n--x\nContent-Type: text/plain; charset=iso-8859-1\n'
        b"Content-Transfer-Encoding: quoted-printable\n\n=E9\n--x\nContent-Type: text/html\n"
        b"Content-Transfer-Encoding: base64\n\nPHA+YQ==\n--x\nContent-Type: message/rfc822\n\nSubject: a\n\nc\n"
        b'--x\nContent-Disposition: attachment; filename="a.txt"\nContent-Type: application/octet-stream\n\na\n--x--\n'
    ),
    "a.pdf": (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj "
        b"4 0 obj<</Length 33>>stream\nBT /F 9 Tf 9 9 Td (a b) Tj ET    \nendstream endobj "
        b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
    ),
}

_ZIPPED: dict[str, dict[str, str]] = {
    "a.docx": {
        "word/document.xml": f'<w:document xmlns:w="{_W}"><w:body><w:p>'
        "<w:r><w:t>a</w:t></w:r></w:p></w:body></w:document>"
    },
    "a.pptx": {
        "ppt/presentation.xml": "<p/>",
        "ppt/slides/slide1.xml": '<s xmlns:a="x"><sp><a:p><a:t>a</a:t></a:p></sp></s>',
    },
    "a.odt": {
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": f'<o:body xmlns:o="{_OFFICE}:office:1.0" xmlns:t="{_OFFICE}:text:1.0"><t:p>a</t:p></o:body>',
    },
    "a.epub": {
        "META-INF/container.xml": '<c><rootfile full-path="b.opf"/></c>',
        "b.opf": '<p><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/><itemref idref="a"/></p>',
        "a.xhtml": '<?xml version="1.0" encoding="utf-8"?><html><body><p>a</p></body></html>',
    },
    "a.xlsx": {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGES}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGES}/relationships"><Relationship Id="rId1" '
        f'Type="{_R}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_S}" xmlns:r="{_R}"><sheets>'
        '<sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGES}/relationships"><Relationship Id="rId1" '
        f'Type="{_R}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_S}"><sheetData><row r="1"><c r="A1" t="inlineStr">'
        '<is><t>a</t></is></c><c r="B1"><v>1</v></c></row></sheetData></worksheet>',
    },
    "a.zip": {"a.txt": "a"},
}


_PICTURES = {"blank.png": "PNG", "blank.jpg": "JPEG", "blank.webp": "WEBP", "blank.gif": "GIF", "blank.tif": "TIFF"}


def samples() -> Iterator[tuple[str, bytes]]:
    """Names and contents."""
    yield from _PLAIN.items()
    for name, kind in _PICTURES.items():
        picture = io.BytesIO()
        Image.new("RGB", (40, 40)).save(picture, kind)
        yield name, picture.getvalue()
    for name, members in _ZIPPED.items():
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, text in members.items():
                archive.writestr(member, text)
        yield name, content.getvalue()
