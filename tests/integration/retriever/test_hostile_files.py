"""Files that were made to do harm: each is read for what it says, or ends with a sentence, within its limits."""

import io
import os
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.parser import Parsed, Parser
from cloister_retriever.parsing.warm import ParserHost
from cloister_retriever.settings import IngestionSettings

from tests.support.models import minilm_folder
from tests.support.office import docx, odt, zipped
from tests.support.workbooks import Cell, excel, excel_97, excel_binary, opendocument

MIB = 1024 * 1024


HOST = ParserHost()
HERE = Path(__file__).as_uri()
"""A file that is there, and that no document may get at: this one."""


@pytest.fixture(scope="module", autouse=True)
def host() -> Iterator[None]:
    """One warm process for all tests here: to start it takes most of a second."""
    yield
    HOST.close()


async def parse(content: bytes, name: str) -> Parsed | str:
    """What became of a file: what was read, or the sentence that says why not."""

    async def chunks() -> AsyncIterator[bytes]:
        for first in range(0, len(content), 65_536):
            yield content[first : first + 65_536]

    parser = Parser(
        IngestionSettings(tokenizer_path=minilm_folder(), parse_seconds=20, parse_memory_bytes=512 * MIB), HOST
    )
    try:
        return await parser.parse(chunks(), name=name, max_tokens=200, overlap_tokens=40)
    except UnreadableFile as error:
        return error.message


def stored(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def pdf(*objects: bytes) -> bytes:
    """A PDF of these objects, without a table of them: PDFium makes one."""
    numbered = b"\n".join(b"%d 0 obj%s endobj" % (number, one) for number, one in enumerate(objects, 1))
    return b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n" + numbered + b"\ntrailer<</Root 1 0 R>>\n%%EOF"


def within(content: bytes, depth: int) -> bytes:
    for number in range(depth):
        content = zipped({f"{number}.zip": content})
    return content


PARAGRAPH = "<w:p><w:r><w:t>words that stay {}</w:t></w:r></w:p>"
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


REPEATED = (
    '<table:table-row table:number-rows-repeated="1048576"><table:table-cell table:number-columns-repeated="16384">'
    "<text:p>again and again and again</text:p></table:table-cell></table:table-row>"
)


def sheet_with(entity: str) -> str:
    rows = (f'<row><c t="str"><v>{said}</v></c></row>' for said in ("words that stay", entity))
    return f"<sheetData>{''.join(rows)}</sheetData>"


def word_2003(body: str) -> bytes:
    return (
        '<w:wordDocument xmlns:w="http://schemas.microsoft.com/office/word/2003/wordml"><w:body>'
        f"<w:p><w:r><w:t>words that stay</w:t></w:r></w:p>{body}</w:body></w:wordDocument>"
    ).encode()


def workbook_2003(inner: str) -> bytes:
    said = "<Worksheet><Row><Cell><Data>words that stay</Data></Cell></Row></Worksheet>"
    ends = "</Worksheet>" * inner.count("<Worksheet>")
    return f'<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet">{said}{inner}{ends}</Workbook>'.encode()


def with_dtd(dtd: str, entity: str) -> bytes:
    made = docx(PARAGRAPH.format(entity))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["word/document.xml"] = f"<!DOCTYPE d [{dtd}]>".encode() + parts["word/document.xml"]
    return stored(parts)


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (stored({"a.txt": bytes(300 * MIB)}), "a.zip", "more than its size"),
        (stored({"word/document.xml": b"<a>" + b" " * (200 * MIB)}), "a.docx", "more than its size"),
        (excel({"S": " " * (200 * MIB)}), "a.xlsx", "more than its size"),
        (opendocument(f'<table:table table:name="T">{REPEATED * 50}</table:table>'), "a.ods", "bytes of text"),
        (excel_97([Cell("A1", "words")]).replace(b"w\0o\0r\0d\0s\0", os.urandom(10))[:1700], "a.xls", ""),
        (b"\x78\x9f\x3e\x22" + os.urandom(64 * 1024), "winmail.dat", ""),
        (within(b"words", 30), "a.zip", "Nothing in the archive"),
        (stored({f"{number}.txt": b"a" for number in range(12_000)}), "a.zip", "more than 10000 files"),
        (pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R]/Count 1>>"), "loop.pdf", ""),
        (
            pdf(
                b"<</Type/Catalog/Pages 2 0 R>>",
                b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
                b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
                b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream"
                % (len(bomb := zlib.compress(b"q " * (300 * MIB // 2), 9)), bomb),
            ),
            "bomb.pdf",
            "",
        ),
        (b"{\\rtf1\\ansi " + b"{" * 1_000_000, "a.rtf", ""),
        (
            b"From: a\nMessage-ID: b\nSubject: c\n"
            + b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(500)),
            "a.eml",
            "",
        ),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + os.urandom(4096), "a.msg", "old Office"),
        (b"PK\x03\x04" + os.urandom(4096), "a.docx", "damaged"),
    ],
    ids=[
        "zip",
        "docx",
        "xlsx",
        "ods",
        "xls",
        "tnef",
        "deep",
        "many",
        "pdf-loop",
        "pdf-bomb",
        "rtf",
        "eml",
        "ole",
        "cut",
    ],
)
async def test_it_ends_with_a_sentence_or_with_what_it_says(content: bytes, name: str, words: str) -> None:
    became = await parse(content, name)
    assert not isinstance(became, str) or became.endswith(".")
    assert words == "" or (isinstance(became, str) and words in became)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (with_dtd(f'<!ENTITY l0 "lol">{LAUGHS}', "&l11;"), "laughs.docx"),
        (with_dtd(f'<!ENTITY x SYSTEM "{HERE}">', "&x;"), "file.docx"),
        (with_dtd('<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;', ""), "remote.docx"),
        (excel({"S": sheet_with("&l11;")}, doctype=f'<!ENTITY l0 "lol">{LAUGHS}'), "laughs.xlsx"),
        (excel({"S": sheet_with("&x;")}, doctype=f'<!ENTITY x SYSTEM "{HERE}">'), "file.xlsx"),
        (
            excel_binary([Cell("A1", "words that stay"), Cell("B9", 1.5, "0" * 255), Cell("XFD1048576", 1, "#/#")]),
            "a.xlsb",
        ),
        (odt("<text:p>words that stay<text:s text:c='999999999'/></text:p>"), "blanks.odt"),
        (stored({"../../tmp/cloister-escape.txt": b"words that stay", "/etc/cloister-escape": b"b"}), "slip.zip"),
        (b"<html><p>words that stay" + b"<div>" * 100_000, "deep.html"),
        (
            f"<html><p>words that stay<img src='http://127.0.0.1:9/x'><iframe src='{HERE}'></iframe>".encode(),
            "a.html",
        ),
        (b"<!-- x -->\n" * 6_000 + b"words that stay", "comments.md"),
        (b"words that stay\n\n" + b"[" * 5_000 + b"\n\n" + b"> " * 5_000, "brackets.md"),
        (b"words that stay\n\n" + b"*a " * 10_000 + b"_" * 10_000, "stars.md"),
        (b"words that stay\n\n" + b"- " * 2_000 + b"\n\n" + b"1. a\n" * 2_000, "lists.md"),
        (b"words that stay\n\n" + b"`" * 10_000 + b"a\n" + b"<a " * 10_000, "ticks.md"),
        (b"words that stay\n" + b"| a " * 10_000 + b"\n" + b"#" * 10_000 + b" a\n", "bars.md"),
        (b"words that stay " + b"\xe4" * 100_000, "letters.txt"),
        (b"words that stay " + "\u6f22".encode() * 20_000, "cjk.txt"),
        *(("\ufeffwords that stay".encode(wide), "wide.txt") for wide in ("utf-16-be", "utf-32-be", "utf-32-le")),
        (b"<html><meta charset=koi8-t><p>words that stay " + "\u0437\u0430".encode("koi8-t"), "rare.html"),
        (b"words that stay,b\n" + b"c," * 20_000 + b"\n", "wide.csv"),
        (b"{\\rtf1\\ansi words that stay\\par " + b"\\'e4" * 20_000 + b"}", "hex.rtf"),
        (b"{\\rtf1\\ansi words that stay\\par " + b"{\\header a\\par{\\*\\annotation b}}" * 20_000, "margins.rtf"),
        (word_2003("<w:p><w:r>" + "<w:footnote/>some words" * 50_000 + "</w:r></w:p>"), "notes.xml"),
        (word_2003("<w:hdr>" * 200 + "words " * 200_000 + "</w:hdr>" * 200), "margins.xml"),
        (workbook_2003("<Worksheet>" * 200 + "<Row><Cell><Data>a</Data></Cell></Row>" * 10_000), "nested.xml"),
        (b"From: a\nMessage-ID: b\n\nwords that stay\n" + b"begin 644 a\n#86)C\n" * 20_000, "begins.eml"),
        (b"From: a\nMessage-ID: b\nSubject: " + b"=?utf-8?q?a?= " * 2_000 + b"\n\nwords that stay", "subject.eml"),
    ],
)
async def test_what_it_says_is_read_in_time_and_nothing_else(content: bytes, name: str) -> None:
    became = await parse(content, name)
    assert isinstance(became, Parsed), became
    assert "words that stay" in became.text
    assert "Files that were made to do harm" not in became.text
    assert "lollol" not in became.text
    assert not Path("/tmp/cloister-escape.txt").exists()
