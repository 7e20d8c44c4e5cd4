"""Odd files that mean no harm: links and twins in archives, marks that never end, what terminals are told."""

import io
import stat
import warnings
import zipfile

import pytest
from cloister_retriever.parsing.document import Document
from cloister_retriever.parsing.reader import Reader

from tests.support.office import epub, pptx, xlsx, zipped


def read(content: bytes, name: str) -> Document:
    return Reader(16 * 1024 * 1024).read(content, name)


def test_a_link_in_an_archive_is_told_and_followed_nowhere() -> None:
    link = zipfile.ZipInfo("link.txt")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "/etc/hostname")
        archive.writestr("a.txt", "words that stay")
    document = read(out.getvalue(), "a.zip")
    assert document.text == "a.txt\n\nwords that stay"
    assert document.notes == ["link.txt was not read: it leads to another file."]


def test_of_files_of_one_name_in_an_archive_each_is_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a.txt", "first words")
        archive.writestr("a.txt", "second words")
    assert "first words" in (text := read(out.getvalue(), "a.zip").text)
    assert "second words" in text


def test_names_in_an_archive_are_in_utf8_where_they_can_be() -> None:
    name = "Pr\u00fcfung.txt"
    unsaid = zipped({name: "words"}).replace(b"PK\x03\x04\x14\x00\x00\x08", b"PK\x03\x04\x14\x00\x00\x00")
    at = unsaid.index(b"PK\x01\x02") + 9  # the upper half of the flags in the table of contents
    assert unsaid[at] == 0x08
    unsaid = unsaid[:at] + b"\0" + unsaid[at + 1 :]
    assert read(unsaid, "a.zip").text == f"{name}\n\nwords"


@pytest.mark.parametrize("newline", ["", '\n{"b": 1}'])
def test_letters_that_json_writes_as_numbers_are_letters(newline: str) -> None:
    said = r'{"a": "Gr\u00f6\u00dfe \ud83d\ude00 \u0022 \\u00fc"}' + newline
    read_as = r'{"a": "%s \u0022 \\u00fc"}' % "Gr\u00f6\u00dfe \U0001f600" + newline  # noqa: UP031 - it has braces
    assert read(said.encode(), "a.json").text == read_as
    code = r'{ print("\u00fc") }'
    assert read(code.encode(), "a.awk").text == code


@pytest.mark.parametrize("rows", [3, 200_000])
def test_a_quotation_mark_that_never_ends_takes_no_rows_with_it(rows: int) -> None:
    table = 'name,size\npipe,"5 inches\n' + "hose,3\n" * rows
    assert read(table.encode(), "a.csv").text.splitlines()[1:3] == [
        'name: pipe | size: "5 inches',
        "name: hose | size: 3",
    ]


def test_a_value_may_be_as_long_as_a_file() -> None:
    text = read(b'name,note\nann,"' + b"word, " * 300_000 + b'"\n', "a.csv").text
    assert text.startswith("name | note\nname: ann | note: word, word,")


def test_a_log_loses_its_colours_and_a_manual_what_was_written_over() -> None:
    assert read(b"\x1b[31mError\x1b[0m: disk \x1b[1;4mfull\x1b[m\n" * 3, "a.log").text == "Error: disk full\n" * 3
    assert read(b"N\x08NA\x08AM\x08ME\x08E\n  _\x08l_\x08s - list\n", "a.txt").text == "NAME\n  ls - list\n"
    assert read(b"\x1b]0;title\x07$ make\n", "a.log").text == "$ make\n"


def test_a_page_saved_as_one_file_says_what_its_reader_sees() -> None:
    parts = {"text/html": "<p>words that stay</p><script>bad()</script>", "text/css": "body{color:red}"}
    body = "".join(f"--x\nContent-Type: {kind}\nContent-Location: a\n\n{said}\n" for kind, said in parts.items())
    head = 'From: <Saved>\nSubject: A page\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary="x"\n\n'
    text = read(f"{head}{body}--x--\n".encode(), "a.mht").text
    assert "words that stay" in text
    assert not any(word in text for word in ("bad()", "color:red", "Attachment"))


MAILS = b"".join(b"From a Mon Jan  1 10:0%d:00 2024\nFrom: a@b.c\nSubject: s\n\nwords\n\n" % n for n in range(3))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (pptx([("One", "a", "b"), ("Two", "c", "d"), ("Three", "e", "f")]), "a.pptx"),
        (xlsx({"A": [["words"]], "B": [["words"]], "C": [["words"]]}), "a.xlsx"),
        (epub({"one": "<p>a</p>", "two": "<p>b</p>", "three": "<p>c</p>"}), "a.epub"),
        (zipped({"a.txt": "a", "b.txt": "b", "c.pptx": pptx([("One", "a", "b"), ("Two", "c", "d")])}), "a.zip"),
        (MAILS, "a.mbox"),
    ],
)
def test_what_consists_of_parts_says_how_many_of_them_have_been_read(content: bytes, name: str) -> None:
    told: list[tuple[int, int]] = []
    Reader(100_000, on_page=lambda done, total: told.append((done, total))).read(content, name)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_an_invitation_is_what_it_says_and_not_the_calendars_entry() -> None:
    parts = {"text/html": "<p>words that stay</p>", "text/calendar": "BEGIN:VCALENDAR"}
    body = "".join(f"--x\nContent-Type: {kind}\n\n{said}\n" for kind, said in parts.items())
    head = "From: a@b.c\nMessage-ID: <a>\nSubject: s\nMIME-Version: 1.0\n"
    mail = f'{head}Content-Type: multipart/alternative; boundary="x"\n\n{body}--x--\n'
    text = read(mail.encode(), "a.eml").text
    assert "words that stay" in text
    assert "VCALENDAR" not in text
