"""PDF, through PDFium: the text of each page as it is laid out, its pictures, what was typed into its forms, its
bookmarks."""

import collections
import contextlib
import ctypes
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

from cloister_retriever.parsing.document import Document, UnreadableFile, too_long
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.kinds.pdf_pictures import PlacedPicture, page_pictures
from cloister_retriever.parsing.kinds.pdf_xfa import xfa_form
from cloister_retriever.parsing.layout import Block, page_blocks
from cloister_retriever.parsing.letters import Enclosure, write_enclosures
from cloister_retriever.parsing.ocr import MOST_EDGE
from cloister_retriever.parsing.outline import Writer

__all__ = ["PDF"]

_HEADER_WITHIN = 1024
"""Readers accept junk before ``%PDF-`` within the first KiB (PDF 1.7, implementation note 13)."""

_MAX_PAGES = 10_000
_MAX_FIELDS = 2_000
"""Of a page's form."""

_TYPED = {pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX}
_TICKED = {pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON}
_MAX_BOOKMARKS = 2_000
_MAX_ATTACHMENTS = 1_000
_SAID = {pdfium.FPDF_ANNOT_TEXT, pdfium.FPDF_ANNOT_HIGHLIGHT, pdfium.FPDF_ANNOT_UNDERLINE, pdfium.FPDF_ANNOT_STRIKEOUT}
"""Annotations whose words are a comment."""

_LONGEST_VALUE = 64 * 1024
_LARGER = 1.15
"""A heading's letters, in heights of the text's."""

_MOST_IN_HEADINGS = 0.3
"""Of a document's letters: one that has more of them in large letters has no headings, but large letters."""

_MOST_SCALE = 4.0
"""Pixels for a point: what is smaller than a stamp is not made larger than it was scanned."""

_HEADING_LINES = 3
_HEADING_CHARACTERS = 200
_DEEPEST_HEADING = 6
_NAMED_PAGES = 20
"""Pages that are named in a sentence; of more it says how many."""


class _Field(NamedTuple):
    name: str
    value: str


class _Page(NamedTuple):
    number: int
    blocks: list[Block]
    fields: list[_Field]
    pictures: list[PlacedPicture]
    seen: str = ""
    """What was read of the page as it looks, where it has no text of its own."""


def _parse(source: Source) -> Document:
    """The text of a PDF, page by page.

    Raises:
        UnreadableFile: Encrypted, broken, without text, or with more characters than its text may have bytes.
    """
    pdf = _opened(source)
    pages, broken = _pages(pdf, source)
    writer = Writer(source.max_text_bytes)
    levels = _heading_levels(pages)
    bookmarks = _bookmarks(pdf)
    for page in pages:
        writer.page(page.number)
        _write(writer, page, levels, bookmarks.get(page.number, []))
        writer.apart()
        for field in page.fields:
            writer.line(f"{field.name}: {field.value}" if field.name else field.value)
    _write_xfa(writer, pdf, pages)
    write_enclosures(writer, source, _attached(pdf, writer), called="Attachment")
    if writer.is_empty:
        reason = "its pages are damaged" if broken else f"it may be a scan, and {_unread(source)}"
        raise UnreadableFile("invalid_file", f"No text was found in the PDF: {reason}.")
    seen = [page.number for page in pages if page.seen]
    if seen:
        has, its = ("is", "its") if len(seen) == 1 else ("are", "their")
        writer.note(f"{_named(seen)} {has} scanned: {its} text was read from the picture, and may have errors.")
    silent = [page.number for page in pages if not page.blocks and not page.fields and not page.seen]
    if silent:
        has, it = ("has", "it is") if len(silent) == 1 else ("have", "they are")
        writer.note(f"{_named(silent)} {has} no text: {it} empty, or scanned, and {_unread(source)}.")
    if broken:
        writer.note(f"{_named(broken)} could not be read: {'it is' if len(broken) == 1 else 'they are'} damaged.")
    return writer.document()


def _write_xfa(writer: Writer, pdf: pypdfium2.PdfDocument, pages: list[_Page]) -> None:
    """What a form in XFA says beside the pages: what they show too is not said twice."""
    kind = pdf.get_formtype()
    if kind not in {pdfium.FORMTYPE_XFA_FULL, pdfium.FORMTYPE_XFA_FOREGROUND}:
        return
    form = xfa_form(pdf)
    if form is None:
        writer.note("The PDF has a form in XFA, of which only what its pages show was read: print it as a PDF.")
        return
    shown = {field.value for page in pages for field in page.fields}
    writer.page(None)
    if kind == pdfium.FORMTYPE_XFA_FULL:
        writer.paragraph("\n".join(form.words))
    writer.apart()
    for name, value in form.values:
        if value not in shown:
            writer.line(f"{name}: {value}")


def _attached(pdf: pypdfium2.PdfDocument, writer: Writer) -> list[Enclosure]:
    """The files that a PDF brings along; a portfolio is nothing else."""
    found: list[Enclosure] = []
    count = pdf.count_attachments()
    for number in range(min(count, _MAX_ATTACHMENTS)):
        with contextlib.suppress(pypdfium2.PdfiumError, UnicodeDecodeError):
            attachment = pdf.get_attachment(number)
            found.append(Enclosure(attachment.get_name(), bytes(attachment.get_data())))
    if len(found) < count:
        writer.note(f"Of the {count} files that the PDF brings along {count - len(found)} could not be read.")
    return found


def _unread(source: Source) -> str:
    """Why text in a picture was not read."""
    if not source.eyes.can_read:
        return "text in images is not read here"
    return "there was no time to read more scans" if source.eyes.skipped else "no text was found in the scan"


def _opened(source: Source) -> pypdfium2.PdfDocument:
    try:
        pdf = pypdfium2.PdfDocument(source.content)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise UnreadableFile(
                "invalid_file", "The PDF is encrypted. Upload a copy that opens without a password."
            ) from error
        raise UnreadableFile("invalid_file", "The PDF is damaged and cannot be opened.") from error
    if len(pdf) > _MAX_PAGES:
        raise UnreadableFile("invalid_file", f"The PDF has more than {_MAX_PAGES} pages. Split it.")
    if pdf.get_formtype() != pdfium.FORMTYPE_NONE:
        pdf.init_forms()
    return pdf


def _pages(pdf: pypdfium2.PdfDocument, source: Source) -> tuple[list[_Page], list[int]]:
    """The pages that can be read, and the numbers of those that cannot."""
    pages: list[_Page] = []
    broken: list[int] = []
    length = 0
    for number in range(1, len(pdf) + 1):
        source.on_page(number - 1, len(pdf))
        try:
            pages.append(_page(pdf, number, source))
        except pypdfium2.PdfiumError:
            broken.append(number)
            continue
        length += sum(len(line.text) for block in pages[-1].blocks for line in block)
        if length > source.max_text_bytes:
            raise UnreadableFile(
                "invalid_file", f"The PDF has more than {source.max_text_bytes} characters of text. Split it."
            )
    source.on_page(len(pdf), len(pdf))
    return pages, broken


def _page(pdf: pypdfium2.PdfDocument, number: int, source: Source) -> _Page:
    page = pdf[number - 1]
    try:
        textpage = page.get_textpage()
        try:
            if textpage.count_chars() > source.max_text_bytes:
                raise too_long(source.max_text_bytes)
            blocks = page_blocks(textpage, upright=page.get_rotation() == 0, is_word=source.is_word)
        finally:
            textpage.close()
        fields = list(_fields(page))
        seen = "" if blocks or fields else _seen(page, source)
        return _Page(number, blocks, fields, page_pictures(page, blocks, source.album), seen)
    finally:
        page.close()


def _seen(page: pypdfium2.PdfPage, source: Source) -> str:
    """The text of a page that is nothing but pictures, as it looks."""
    if not source.eyes.can_read or next(page.get_objects(filter=(pdfium.FPDF_PAGEOBJ_IMAGE,)), None) is None:
        return ""
    scale = MOST_EDGE / max(page.get_width(), page.get_height(), 1)
    return source.eyes.read(page.render(scale=min(scale, _MOST_SCALE)).to_pil())


def _heading_levels(pages: list[_Page]) -> dict[float, int]:
    """The level of each height of letters that headings have: clearly higher than what most of the text has."""
    letters: collections.Counter[float] = collections.Counter()
    for page in pages:
        for block in page.blocks:
            for line in block:
                letters[_rounded(line.height)] += len(line.text)
    if not letters:
        return {}
    body = max(letters, key=lambda height: letters[height])
    larger = sorted((height for height in letters if height >= _LARGER * body), reverse=True)
    if sum(letters[height] for height in larger) > _MOST_IN_HEADINGS * letters.total():
        return {}
    return {height: min(level, _DEEPEST_HEADING) for level, height in enumerate(larger, 1)}


def _write(writer: Writer, page: _Page, levels: dict[float, int], marks: list[tuple[int, str]]) -> None:
    """A page's blocks, and its pictures between them.

    A short block in large letters is a heading, and so is a line that a bookmark leads to.
    """
    marked = {_folded(title): level for level, title in marks}
    headings = [_heading(block, levels) for block in page.blocks]
    if all(level is not None for level in headings):
        headings = [None] * len(page.blocks)  # a title page: these are its text
    waiting = list(page.pictures)
    for place, (block, level) in enumerate(zip(page.blocks, headings, strict=True)):
        while waiting and waiting[0].before <= place:
            _write_picture(writer, waiting.pop(0))
        text = " ".join(line.text for line in block)
        mark = marked.pop(_folded(text), None)
        if mark is not None or level is not None:
            writer.heading(mark or level or 1, text)
        else:
            _write_lines(writer, block, marked)
    for picture in waiting:
        _write_picture(writer, picture)
    writer.paragraph(page.seen)


def _write_picture(writer: Writer, picture: PlacedPicture) -> None:
    writer.picture(picture.number, picture.text)


def _write_lines(writer: Writer, block: Block, marked: dict[str, int]) -> None:
    """A block of text. The lines that a bookmark leads to are headings in it."""
    rest: list[str] = []
    for line in block:
        mark = marked.pop(_folded(line.text), None)
        if mark is None:
            rest.append(line.text)
            continue
        writer.paragraph("\n".join(rest))
        rest = []
        writer.heading(mark, line.text)
    writer.paragraph("\n".join(rest))


def _heading(block: Block, levels: dict[float, int]) -> int | None:
    if len(block) > _HEADING_LINES or sum(len(line.text) for line in block) > _HEADING_CHARACTERS:
        return None
    return levels.get(_rounded(block[0].height))


def _rounded(height: float) -> float:
    return round(height * 2) / 2


def _folded(title: str) -> str:
    return "".join(title.split()).casefold()


def _bookmarks(pdf: pypdfium2.PdfDocument) -> dict[int, list[tuple[int, str]]]:
    """Level and title of the bookmarks that lead to each page. A loop among them ends at the limit, or at the depth."""
    found: dict[int, list[tuple[int, str]]] = {}
    for bookmark in itertools.islice(pdf.get_toc(max_depth=6), _MAX_BOOKMARKS):
        target = bookmark.get_dest()
        index = None if target is None else target.get_index()
        title = bookmark.get_title()
        if index is not None and title and title.strip():
            found.setdefault(index + 1, []).append((bookmark.level + 1, title))
    return found


def _fields(page: pypdfium2.PdfPage) -> Iterator[_Field]:
    """What was typed, chosen or noted on the page. A button says nothing, a box that is ticked says its name."""
    form = None if page.formenv is None else page.formenv.raw
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page.raw), _MAX_FIELDS)):
        annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
        if not annotation:
            continue
        try:
            subtype = pdfium.FPDFAnnot_GetSubtype(annotation)
            if subtype in _SAID or subtype == pdfium.FPDF_ANNOT_FREETEXT:
                text = _string(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents")
                if text.strip():
                    yield _Field("Comment" if subtype in _SAID else "", text)
            if form is None:
                continue
            kind = pdfium.FPDFAnnot_GetFormFieldType(form, annotation)
            name = _string(pdfium.FPDFAnnot_GetFormFieldAlternateName, form, annotation) or _string(
                pdfium.FPDFAnnot_GetFormFieldName, form, annotation
            )
            if kind in _TYPED:
                value = _string(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation)
                if value.strip():
                    yield _Field(name, value)
            elif kind in _TICKED and pdfium.FPDFAnnot_IsChecked(form, annotation):
                chosen = _string(pdfium.FPDFAnnot_GetFormFieldExportValue, form, annotation)
                yield _Field(name, chosen or "yes")
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _string(function: object, holder: object, what: object) -> str:
    """What one of PDFium's functions gives that write UTF-16 into a buffer and say how many bytes that takes."""
    assert callable(function)
    length = min(function(holder, what, None, 0), _LONGEST_VALUE)
    if length <= 2:
        return ""
    buffer = (ctypes.c_ushort * (length // 2))()
    function(holder, what, buffer, length)
    return bytes(buffer).decode("utf-16-le", "replace").rstrip("\0")


def _named(pages: list[int]) -> str:
    """``Page 2``, ``Pages 2 and 5``; of many the first and how many more."""
    if len(pages) == 1:
        return f"Page {pages[0]}"
    shown = [str(page) for page in pages[:_NAMED_PAGES]]
    if len(pages) > _NAMED_PAGES:
        return f"Pages {', '.join(shown)} and {len(pages) - _NAMED_PAGES} more"
    return f"Pages {', '.join(shown[:-1])} and {shown[-1]}"


def _claims(look: Look) -> bool:
    """A note that quotes a PDF's first line is a note: a file that is all text is a PDF only if it is built as one."""
    head = look.head.lstrip() if not look.is_binary else look.content[: _HEADER_WITHIN + len(b"%PDF-")]
    if not look.is_binary and look.head[:_HEADER_WITHIN].isascii():
        return (
            head.startswith(b"%PDF-")
            and b" obj" in look.head
            and (b"trailer" in look.content or b"xref" in look.content)
        )
    if look.is_binary or not _is_utf8(look.head):
        return b"%PDF-" in look.content[:_HEADER_WITHIN]
    return head.startswith(b"%PDF-") and b" obj" in look.head


def _is_utf8(head: bytes) -> bool:
    text = head.decode("utf-8", "replace")
    return text.count("\ufffd") <= 1


PDF = Kind("pdf", called=("PDF",), parse=_parse, claims=_claims)
