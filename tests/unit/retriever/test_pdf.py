"""PDF: columns, tables, headings, forms, hyphens and pages that say nothing, in files that reportlab makes."""

import io
from collections.abc import Callable, Sequence

import pytest
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.reader import Reader
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

WORDS = {"adjustment", "part", "time", "well", "known", "environment", "environmental"}


def read(draw: Callable[[Canvas], None]) -> Document:
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4)
    draw(canvas)
    canvas.save()
    return Reader(1_000_000, is_word=lambda word: word.lower() in WORDS).read(out.getvalue(), "a.pdf")


def column(canvas: Canvas, left: float, lines: Sequence[str], *, top: float = 700, step: float = 14) -> None:
    for number, line in enumerate(lines):
        canvas.drawString(left, top - number * step, line)


def test_columns_are_read_one_after_the_other_whatever_order_they_were_drawn_in() -> None:
    left = [f"left line number {number} goes on here" for number in range(8)]
    right = [f"right line number {number} goes on here" for number in range(8)]

    def draw(canvas: Canvas) -> None:
        canvas.drawString(60, 760, "A title that runs across both of the columns of this page, from left to right")
        for number in range(8):
            column(canvas, 60, [left[number]], top=700 - 14 * number)
            column(canvas, 320, [right[number]], top=700 - 14 * number)

    lines = read(draw).text.split("\n")
    assert [line for line in lines if "line number" in line] == left + right
    assert lines[0].startswith("A title")


def test_rows_of_a_table_are_lines_although_it_was_drawn_column_by_column() -> None:
    def draw(canvas: Canvas) -> None:
        column(canvas, 60, ["Name", "Ada", "Bob"])
        column(canvas, 220, ["Days", "25", "30"])
        column(canvas, 380, ["Town", "London", "Paris"])

    assert read(draw).text.split("\n")[:3] == ["Name | Days | Town", "Ada | 25 | London", "Bob | 30 | Paris"]


@pytest.mark.parametrize(
    ("lines", "whole"),
    [
        (["The annual adjust-", "ment follows"], "adjustment follows"),
        (["a well-", "known rule"], "well-known"),
        (["the part-", "time board"], "part-time"),
        (["Order the F-", "150 now"], "F-150"),
        (["the Anglo-", "Saxon one"], "Anglo-Saxon"),
        (["state-of-the-", "art work"], "state-of-the-art"),
        (["die Gesch\u00e4fts-", "f\u00fchrung pr\u00fcft"], "Gesch\u00e4ftsf\u00fchrung"),
    ],
)
def test_a_hyphen_at_a_lines_end_stays_where_it_belongs(lines: list[str], whole: str) -> None:
    assert whole in " ".join(read(lambda canvas: column(canvas, 60, lines)).text.split())


def test_large_letters_are_headings_and_stand_over_the_pages_that_follow() -> None:
    def draw(canvas: Canvas) -> None:
        canvas.setFont("Helvetica-Bold", 18)
        canvas.drawString(60, 780, "Leave")
        canvas.setFont("Helvetica", 10)
        column(
            canvas,
            60,
            ["Twenty-five days a year, and as many as are left", "of the year before, until the end of March."],
            top=750,
        )
        canvas.showPage()
        canvas.setFont("Helvetica", 10)
        column(canvas, 60, ["What is left after that is lost, but for a reason."], top=780)
        canvas.showPage()

    assert [(part.page, part.section) for part in read(draw).segments] == [(1, "Leave"), (2, "Leave")]


def test_a_bookmark_makes_the_line_that_it_leads_to_a_heading() -> None:
    def draw(canvas: Canvas) -> None:
        canvas.bookmarkPage("leave")
        canvas.addOutlineEntry("Annual leave", "leave", 0)
        column(canvas, 60, ["Annual leave", "Twenty-five days a year."])

    assert [part.section for part in read(draw).segments] == ["Annual leave"]


def test_what_was_filled_into_a_form_is_read_with_its_names() -> None:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(60, 760, "Application")
        form = canvas.acroForm
        form.textfield(name="name", tooltip="Full name", value="Ada Example", x=60, y=700)
        form.textfield(name="empty", value="", x=60, y=660)
        form.checkbox(name="agreed", tooltip="I agree", checked=True, x=60, y=620)
        form.checkbox(name="other", tooltip="Not this", checked=False, x=60, y=580)
        form.choice(name="town", options=["London", "Paris"], value="Paris", x=60, y=540)

    text = read(draw).text
    assert "Full name: Ada Example" in text
    assert "I agree: Yes" in text
    assert "town: Paris" in text
    assert "empty" not in text
    assert "Not this" not in text


def test_pages_without_text_are_told_by_their_numbers() -> None:
    def draw(canvas: Canvas) -> None:
        for page in range(1, 6):
            if page in {1, 4}:
                canvas.drawString(60, 700, f"page {page}")
            else:
                canvas.rect(60, 60, 100, 100)
            canvas.showPage()

    document = read(draw)
    assert [part.page for part in document.segments] == [1, 4]
    assert document.notes == [
        "Pages 2, 3 and 5 have no text: they are empty, or scanned, and text in images is not read here."
    ]


def test_a_pdf_without_any_text_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="No text was found"):
        read(lambda canvas: canvas.rect(60, 60, 100, 100))


def test_what_was_written_onto_a_page_is_read_and_a_link_is_not() -> None:
    def draw(canvas: Canvas) -> None:
        canvas.drawString(72, 700, "body text")
        canvas.textAnnotation("ask Ada", (100, 100, 200, 200))
        canvas.freeTextAnnotation("paid in May", (100, 300, 200, 400))
        canvas.linkURL("https://example.com/", (72, 700, 100, 710))

    assert read(draw).text == "body text\n\nComment: ask Ada\npaid in May"


_BRINGS_A_FILE = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/Names<</EmbeddedFiles<</Names[(t.csv) 6 0 R]>>>>"
    b"/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>endobj "
    b"6 0 obj<</Type/Filespec/F(t.csv)/EF<</F 7 0 R>>>>endobj 7 0 obj<</Type/EmbeddedFile/Length 18>>stream\n"
    b"Name,Town\nAda,Ulm\n\nendstream endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
)


def test_files_that_a_pdf_brings_along_are_read_and_its_scripts_are_not() -> None:
    document = Reader(100_000).read(_BRINGS_A_FILE, "a.pdf")
    assert document.text == "t.csv\n\nName | Town\nName: Ada | Town: Ulm"
    assert "alert" not in document.text


def test_a_file_that_a_pdf_brings_along_damaged_is_told() -> None:
    names = b"[(t.csv) 6 0 R(u.csv) 8 0 R]"
    content = _BRINGS_A_FILE.replace(b"[(t.csv) 6 0 R]", names).replace(
        b"trailer", b"8 0 obj<</Type/Filespec/F(u.csv)/EF<</F 9 0 R>>>>endobj\ntrailer"
    )
    document = Reader(100_000).read(content, "a.pdf")
    assert document.text.startswith("t.csv")
    assert document.notes[0] == "Of the 2 files that the PDF brings along 1 could not be read."


def test_a_pdf_that_only_its_owner_may_change_opens() -> None:
    out = io.BytesIO()
    canvas = Canvas(out, encrypt=StandardEncryption("", ownerPassword="own"))
    canvas.drawString(72, 700, "words")
    canvas.save()
    assert Reader(100_000).read(out.getvalue(), "a.pdf").text == "words"
    cut = out.getvalue()
    at = cut.rindex(b"startxref")
    assert Reader(100_000).read(cut[:at] + b"startxref\n99999999\n%%EOF", "a.pdf").text == "words"
