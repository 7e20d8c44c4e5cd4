"""Calendars and address cards, whose lines are folded and escaped, and files of a desk that are told by name."""

import base64
import json

import pytest
from cloister_retriever.parsing.album import Album, PictureLimits
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.reader import Reader

from tests.support.illustrated import picture

RED = base64.b64encode(picture("red"))
HEAD = b"From: ada@example.com\nTo: bob@example.com\nSubject: Plans\nMessage-ID: <1@example.com>\nMIME-Version: 1.0\n"


def read(content: bytes, name: str) -> Document:
    return Reader(1_000_000, album=Album(PictureLimits(10, 1_000_000, 1_000_000, 60.0))).read(content, name)


def test_an_entry_of_a_calendar_is_read_as_its_reader_sees_it() -> None:
    content = (
        b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//A program//\r\nBEGIN:VTIMEZONE\r\nTZID:Europe/Berlin\r\n"
        b"BEGIN:STANDARD\r\nDTSTART:19701025T030000\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nBEGIN:VEVENT\r\n"
        b'DTSTART;TZID="Europe:Berlin":20240301T093000\r\nDTEND:20240301T083000Z\r\nDUE;VALUE=DATE:20240302\r\n'
        b"SUMMARY:Harbour meet\r\n ing\\, part two\r\nDESCRIPTION:One\\nTwo\\\\nThree\r\n"
        b"ORGANIZER;CN=Ada:mailto:ada@example.com\r\nX-OWN:1\r\nUID:2\r\n"
        b"BEGIN:VALARM\r\nDESCRIPTION:Ring\r\nEND:VALARM\r\nEND:VEVENT\r\n"
        b"BEGIN:VEVENT\r\nSUMMARY:Another\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    assert read(content, "a.ics").text == (
        "Dtstart: 2024-03-01 09:30\nDtend: 2024-03-01 08:30 UTC\nDue: 2024-03-02\nSummary: Harbour meeting, part two\n"
        "Description: One\nTwo\\nThree\nOrganizer: ada@example.com\n\nSummary: Another"
    )


@pytest.mark.parametrize("line", [b"PHOTO;ENCODING=BASE64;PNG:", b"PHOTO:data:image/png;base64,"])
def test_an_address_card_is_read_with_its_picture(line: bytes) -> None:
    content = (
        b"begin:vcard\r\nVERSION:2.1\r\nN:M;J\r\n"
        b"FN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:J=C3=B6rg M=\r\n=C3=BCller\r\n"
        b"item1.ADR;TYPE=work:;;Quay 9;Ulm;;89073;\r\nTEL:+49 731 1\r\n" + line + RED + b"\r\nend:vcard\r\n"
    )
    document = read(content, "a.vcf")
    assert document.text == "Fn: J\u00f6rg M\u00fcller\nAdr: Quay 9, Ulm, 89073\nTel: +49 731 1"
    assert len(document.pictures) == 1


def test_a_notebook_is_its_words_its_code_and_what_it_printed_and_drew() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Harbour\n", "\n", "Some words."]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                {"output_type": "display_data", "data": {"image/png": RED.decode(), "text/plain": "<Figure>"}},
                {"output_type": "error", "data": [], "text": 7},
            ],
        },
        "no cell",
    ]
    document = read(json.dumps({"cells": cells, "nbformat": 4}).encode(), "a.ipynb")
    assert document.text == "# Harbour\n\nSome words.\n\nprint(1)\n\n1"
    assert document.segments[-1].section == "Harbour"
    assert len(document.pictures) == 1
    for damaged in (b'{"cells" "nbformat"', b'{"nbformat": 4, "cells": ' + b"[" * 100_000):
        with pytest.raises(UnreadableFile, match="damaged"):
            read(damaged, "a.ipynb")


def test_a_mail_of_apples_program_is_a_mail() -> None:
    mail = HEAD + b"\nThe words of the mail.\n"
    content = b"%d       \n%s" % (len(mail), mail) + b'<?xml version="1.0"?><plist><dict/></plist>\n'
    assert (
        read(content, "1.emlx").text == "Plans\n\nFrom: ada@example.com\nTo: bob@example.com\n\nThe words of the mail."
    )


def test_a_page_that_was_saved_with_its_pictures_has_them() -> None:
    content = (
        HEAD + b'Content-Type: multipart/related; boundary="X"\n\n--X\nContent-Type: text/html\n\n<p>words</p>'
        b'<img src="http://example.com/a.png" alt="A crane">\n--X\nContent-Type: image/png\nContent-Transfer-Encoding: '
        b"base64\nContent-Location: http://example.com/a.png\n\n" + RED + b"\n--X--\n"
    )
    document = read(content, "a.mht")
    assert document.text.endswith("words\n\nA crane")
    assert len(document.pictures) == 1


@pytest.mark.parametrize(
    ("begin", "named"),
    [
        (b"\xffWPC\0\0", "WordPerfect"),
        (b"AC1032\0\0", "AutoCAD"),
        (b"ITSF\x03\0", "help file"),
        (b"\0".ljust(60, b"\0") + b"BOOKMOBI", "Kindle"),
        (b"!BDN\0\0", "mailbox of Outlook"),
        (b"bplist00\0", "web archive"),
        (b"\xff\xfb\x90\0", "a sound"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQ\n", "encrypted with PGP"),
        (b"(This file must be converted with BinHex 4.0)\n:", "BinHex"),
    ],
)
def test_what_lies_on_a_desk_and_is_not_read_is_named(begin: bytes, named: str) -> None:
    with pytest.raises(UnreadableFile, match=named):
        read(begin + bytes(range(256)) * (not begin.endswith((b"\n", b":"))), "a.bin")


@pytest.mark.parametrize("word", ["\u044f\u0441\u043d\u043e", "\u044f\u044b"])
def test_a_text_that_begins_with_the_letters_of_a_sound_is_a_text(word: str) -> None:
    said = "\u0447\u0442\u043e \u0432 \u043f\u043e\u0440\u0442\u0443 \u0441\u0442\u043e\u0438\u0442 "
    text = f"{word} {said}" * 9
    assert read(text.encode("cp1251"), "a.txt").text.startswith(word)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'{ "cells" and "nbformat" tell a notebook, says this note }', "a.txt"),
        (b'{"schema": {"required": ["cells", "nbformat"], "title": "of notebooks"}}', "a.json"),
        (b'{"cells": {"nbformat": 1}, "title": "of prisons"}', "a.json"),
        (b"BEGIN:VCARDS are what this note is about.\nNobody leaves out its lines without a colon.", "a.txt"),
    ],
)
def test_a_text_that_only_begins_like_another_kind_stays_one(content: bytes, name: str) -> None:
    assert read(content, name).text == content.decode()


def test_a_table_whose_first_column_is_called_like_a_card_stays_one() -> None:
    assert "2" in read(b"BEGIN:VCARD;b;c\n1;2;3\n4;5;6\n", "a.csv").text


@pytest.mark.parametrize("number", [b"1", b"5", b"9999999999"])
def test_a_number_before_a_mail_cuts_it_off_only_where_apples_list_follows(number: bytes) -> None:
    assert read(number + b"\n" + HEAD + b"\nWords that stay.", "a.eml").text.endswith("Words that stay.")
