"""Each kind of file: its words in their order, its headings, its rows and notes. No process is started here."""

import io
import zipfile

import pytest
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.table import KINDS
from cloister_retriever.parsing.reader import Reader
from cloister_retriever.parsing.samples import samples

from tests.support.office import docx, eml, epub, msg, odp, ods, odt, pptx, xlsx, zipped


def read(content: bytes, name: str = "a.bin", **limits: int) -> Document:
    return Reader(limits.get("max_text_bytes", 1_000_000)).read(content, name)


def parts(document: Document) -> list[tuple[str | None, str]]:
    return [(part.section, document.text[part.start : part.end].strip()) for part in document.segments]


def test_every_kind_has_a_sample_that_loads_its_library() -> None:
    names = {name.rpartition(".")[2] for name, _ in samples()}
    assert names >= {"txt", "md", "html", "csv", "rtf", "eml", "pdf", "docx", "pptx", "odt", "epub", "xlsx", "zip"}
    for name, content in samples():
        assert read(content, name).text.strip()
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_a_word_document_has_its_headings_lists_tables_and_notes() -> None:
    document = read(
        docx(
            '<w:p><w:pPr><w:pStyle w:val="H1"/></w:pPr><w:r><w:t>Leave</w:t></w:r></w:p>'
            "<w:p><w:r><w:t>Twenty-</w:t></w:r><w:r><w:t>five days</w:t></w:r>"
            "<w:del><w:r><w:t>gone</w:t></w:r></w:del></w:p>"
            "<w:sdt><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
            "<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>ask early</w:t></w:r></w:p>"
            '<w:p><w:pPr><w:pStyle w:val="H2"/></w:pPr><w:r><w:t>Hours</w:t></w:r></w:p>'
            "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>Class</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>Hours</w:t></w:r></w:p></w:tc></w:tr>"
            "<w:tr><w:tc><w:p><w:r><w:t>Second</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>four</w:t></w:r></w:p></w:tc></w:tr></w:tbl>",
            footnotes="<w:footnote><w:p><w:r><w:t>as of May</w:t></w:r></w:p></w:footnote>",
        ),
        "leave.docx",
    )
    assert parts(document) == [
        ("Leave", "Leave\n\nTwenty-five days\n\nin a control\n\n- ask early"),
        ("Leave > Hours", "Hours\n\nClass | Hours\nSecond | four\n\nas of May"),
    ]


def test_slides_are_pages_in_the_order_in_which_they_are_shown_with_what_is_said_to_them() -> None:
    document = read(pptx([("Leave", "Twenty-five days", "say it slowly"), ("Travel", "Second class", "")]))
    assert [(part.page, part.section) for part in document.segments] == [(1, "Leave"), (2, "Travel")]
    assert document.text == "Leave\n\nTwenty-five days\n\nNotes: say it slowly\n\nTravel\n\nSecond class"


@pytest.mark.parametrize("content", [xlsx({"Staff": [["Name", "Days", "Since"], ["Ada", 25, 43832]]})])
def test_a_row_of_a_sheet_says_what_its_values_are(content: bytes) -> None:
    document = read(content, "staff.xlsx")
    assert parts(document) == [("Staff", "Staff\n\nName | Days | Since\nName: Ada | Days: 25 | Since: 2020-01-02")]


def test_opendocument_is_read_text_slides_and_sheets() -> None:
    text = read(
        odt('<text:h text:outline-level="1">Leave</text:h><text:p>Two<text:s text:c="2"/>days<text:tab/>off</text:p>')
    )
    assert parts(text) == [("Leave", "Leave\n\nTwo  days\toff")]
    beside = "<text:note><text:note-body><text:p>as of May</text:p></text:note-body></text:note>"
    beside += "<office:annotation><text:p>ask Ada</text:p></office:annotation>"
    box = f"<draw:frame><draw:text-box><text:p>in a box{beside}</text:p></draw:text-box></draw:frame>"
    gone = "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
    assert read(odt(f"{gone}<text:p>Days{box}</text:p>")).text.split("\n\n") == [
        "Days",
        "in a box",
        "as of May",
        "ask Ada",
    ]
    slides = read(
        odp(
            '<draw:page><draw:frame presentation:class="title"><text:p>Leave</text:p></draw:frame>'
            "<draw:frame><text:p>days</text:p></draw:frame></draw:page>"
        )
    )
    assert [(part.page, part.section) for part in slides.segments] == [(1, "Leave")]
    sheet = read(ods([["Name", "Town"], ["Ada", "London"]]))
    assert "Name: Ada | Town: London" in sheet.text


def test_a_book_has_its_chapters_in_the_order_in_which_they_are_read() -> None:
    document = read(epub({"one": "<h1>One</h1><p>first</p>", "two": "<h1>Two</h1><p>second</p>"}))
    assert parts(document) == [("One", "One\n\nfirst"), ("Two", "Two\n\nsecond")]


_CIPHER = '<e><Method Algorithm="{}"/><CipherReference URI="{}"/></e>'


def test_a_book_is_refused_where_its_chapters_are_encrypted_and_not_for_its_fonts() -> None:
    book = epub({"one": "<p>words</p>"})
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        files: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    fonts = {**files, "META-INF/encryption.xml": _CIPHER.format("http://www.idpf.org/2008/embedding", "book/f.otf")}
    assert read(zipped(fonts)).text == "words"
    locked = {**files, "META-INF/encryption.xml": _CIPHER.format("aes128-cbc", "book/text/0.xhtml")}
    with pytest.raises(UnreadableFile, match="copy protection"):
        read(zipped(locked))
    with pytest.raises(UnreadableFile, match="chapters"):
        read(zipped({"mimetype": "application/epub+zip", "a.xhtml": "<p>words</p>"}))


def test_rich_text_shows_what_stands_for_an_object_and_not_what_was_deleted() -> None:
    content = rb"{\rtf1\ansi one {\object\objemb{\*\objdata 0102}{\result two}} {\deleted gone}{\v unseen}three\par}"
    assert read(content).text == "one two three"


def test_rich_text_has_its_words_its_signs_and_its_rows() -> None:
    content = (
        rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}{\f1\fcharset204 Arial;}}"
        rb"{\stylesheet{\s1 heading 1;}}{\*\secret no}"
        rb"\pard\s1 Leave\par\pard caf\'e9 \u8364? {\f1 \'e4\'ed\'e8}\par{\pict 0102}"
        rb"\trowd\pard\intbl Class\cell Hours\cell\row\trowd\pard\intbl Second\cell four\cell\row\pard end\par}"
    )
    assert parts(read(content)) == [
        ("Leave", "Leave\n\ncaf\u00e9 \u20ac \u0434\u043d\u0438\n\nClass | Hours\nSecond | four\n\nend")
    ]


def test_a_page_says_what_its_reader_sees() -> None:
    page = """<!-- made by hand --><?xml version="1.0"?>
    <!DOCTYPE html><html><head><title>Ours</title><style>p { color: red }</style></head><body>
    <nav>Home About</nav><header>Banner</header><main><h1>Leave</h1><p>Twenty-five
    days &amp; more</p><ul><li>ask <b>early</b></li><li>in writing</li></ul><script>steal()</script>
    <div style="display: none">unseen</div><table><tr><th>Class<th>Hours<tr><td>Second<td>four</table></main>
    <footer>Imprint</footer></body></html>"""
    assert parts(read(page.encode(), "a.txt")) == [
        ("Leave", "Leave\n\nTwenty-five days & more\n\n- ask early\n- in writing\n\nClass | Hours\nSecond | four")
    ]


@pytest.mark.parametrize("make", [eml, msg])
def test_a_mail_is_read_with_what_came_with_it(make: object) -> None:
    assert callable(make)
    document = read(
        make(
            "Leave in M\u00e4rz",
            "Twenty-five days.",
            {"table.csv": b"Name,Town\nAda,London\n", "x.bin": b"\x00\x01\x02" * 99},
        ),
        "mail",
    )
    assert "Twenty-five days." in document.text
    assert "Name: Ada | Town: London" in document.text
    assert "{" not in document.text
    assert document.segments[0].section == "Leave in M\u00e4rz"
    assert document.segments[-1].section == "table.csv"
    assert [note.partition(" was not read")[0] for note in document.notes] == ["x.bin"]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_mailbox_is_read_mail_by_mail(newline: bytes) -> None:
    words = "Twenty-five days.\n\n>From then on more.\n\nFrom Monday to Friday nobody is here."
    mails = [eml(f"Leave {number}", words, {"x.bin": b"\x00\x01\x02" * 99}) for number in range(2)]
    postmarks = [
        b"From ada@example.com Thu Jan  1 10:00:00 2026\n",
        b"From bob@example.com Fri Jan  2 10:00:00 2026 +0100\n",
    ]
    content = b"\n".join(mark + mail for mark, mail in zip(postmarks, mails, strict=True)).replace(b"\n", newline)
    document = read(content, "archive")
    assert [(section or "").split(" > ")[:2] for section, _ in parts(document)] == [
        ["Mail 1.eml", "Leave 0"],
        ["Mail 2.eml", "Leave 1"],
    ]
    assert document.text.count("\nFrom then on more.") == 2, "the sign that kept the line from being a postmark is gone"
    assert document.text.count("From Monday to Friday") == 2
    assert len(document.notes) == 2
    assert "Leave" in read(b"From here on we write letters.\n\nLeave is taken.", "note.txt").text
    many = b"From a@b.example Thu Jan  1 10:00:00 2026\n" * 20_000
    with pytest.raises(UnreadableFile):
        read(many, "a.mbox")


def test_a_file_of_an_archive_that_is_broken_takes_nothing_else_with_it() -> None:
    content = zipped({"a.txt": b"first words", "b.txt": b"second words that are longer", "c.txt": b"third words"})
    at = content.index(b"b.txt") + len(b"b.txt") + 3
    document = read(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :], "a.zip")
    assert [section for section, _ in parts(document)] == ["a.txt", "c.txt"]
    assert document.notes == ["b.txt was not read: The file is damaged: a part of it cannot be unpacked."]


def test_an_archive_is_its_files_and_says_what_was_not_read() -> None:
    document = read(
        zipped(
            {
                "a/notes.md": "# One\n\nfirst\n",
                "b.docx": docx("<w:p><w:r><w:t>second</w:t></w:r></w:p>"),
                "c.png": b"\x89PNG\r\n\x1a\n\0",
            }
        )
    )
    assert parts(document) == [("a/notes.md > One", "a/notes.md\n\n# One\n\nfirst"), ("b.docx", "b.docx\n\nsecond")]
    assert document.notes == ["c.png was not read: The image is damaged and cannot be opened."]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"Name;Town\nAda;London\n", "a.csv"),
        (b"Name\tTown\nAda\tLondon\n", "a.TSV"),
        (b"sep=;\nName;Town\nAda;London", "a.csv"),
    ],
)
def test_a_table_of_plain_text_is_rows_whatever_parts_its_values(content: bytes, name: str) -> None:
    assert read(content, name).text.endswith("Name | Town\nName: Ada | Town: London")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"# default values\nreplicas: 1\n# image\nimage: web\n# port\nport: 80\n", "values.yaml"),
        (b"#!/bin/sh\n# Adds\n# Licence\n\n# sum\necho 1\n", "add.sh"),
        (b'{"a": [1, 2], "b": "# c"}', "a.json"),
        (b"<project><!-- a --><name>b</name></project>", "pom.xml"),
        (b"// <html> in a comment\nint main() {}\n", "a.c"),
        (b"GIF89a is the newer of the two GIF formats.\n", "gif.txt"),
        (b"RIFFs are short phrases in music.\n", "riff.txt"),
        (b"Rar! the lion said.\n", "rar.txt"),
        (b"BM is short for Benchmark, and MZ for a program.\n", "bm.txt"),
        (b"The first line is %PDF-1.7 and the last is %%EOF.\n", "pdf.txt"),
        (b"%PDF-1.7 begins a PDF.\n", "pdf.txt"),
        (b"{\\rtf1 begins rich text.\n", "rtf.txt"),
        (b"From: is the first field of a mail\nSubject: another\n\nhere\n", "fields.txt"),
        (b"PK is the mark of Phil Katz.\n", "pk.txt"),
    ],
)
def test_text_stays_as_it_is_with_no_headings(content: bytes, name: str) -> None:
    document = read(content, name)
    assert document.text == content.decode()
    assert [part.section for part in document.segments] == [None]


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_the_type_is_told_behind_the_byte_order_mark(mark: str) -> None:
    assert read("<html><p>caf\u00e9</p></html>".encode(mark), "a.txt").text == "caf\u00e9"


def test_a_heading_with_nothing_under_it_goes_with_what_follows() -> None:
    document = read(
        b"# Handbook\n\n## Leave\n\n### Annual\n\nTwenty-five days.\n\n## Travel\n\nBy train.\n\n## Index\n", "a.md"
    )
    assert parts(document) == [
        ("Handbook > Leave > Annual", "# Handbook\n\n## Leave\n\n### Annual\n\nTwenty-five days."),
        ("Handbook > Travel", "## Travel\n\nBy train.\n\n## Index"),
    ]


def test_headings_are_what_commonmark_says() -> None:
    text = (
        b"---\ntitle: x\n---\nOne *big*\n===\na\n\n    # code\n\n<!--\n# comment\n-->\n> # quote\n\n#no\n# `Two`\nb\n"
    )
    assert [section for section, _ in parts(read(text, "a.md"))] == [None, "One big", "Two"]


def test_text_over_the_limit_is_refused_in_every_kind() -> None:
    for content in (
        docx("<w:p><w:r><w:t>" + "a " * 5000 + "</w:t></w:r></w:p>"),
        b"<html>" + b"a " * 5000,
        b"a,b\n" * 5000,
    ):
        with pytest.raises(UnreadableFile, match="more than 2000 bytes"):
            read(content, "a.csv", max_text_bytes=2000)
