"""PDF: the text of each page, through PDFium."""

import pypdfium2

from cloister_retriever.parsing.decoding import clean
from cloister_retriever.parsing.document import Document, Segment, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source

__all__ = ["PDF"]

_HEADER_WITHIN = 1024
"""Readers accept junk before ``%PDF-`` within the first KiB (PDF 1.7, implementation note 13)."""

_MAX_PAGES = 10_000
_PAGE_BREAK = "\n\n"


def _parse(source: Source) -> Document:
    """The text of a PDF, one segment a page that has any.

    Raises:
        UnreadableFile: Encrypted, broken, without text, or with more characters than its text may have bytes.
    """
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
    parts: list[str] = []
    segments: list[Segment] = []
    position = broken = 0
    for number in range(len(pdf)):
        try:
            text = _page_text(pdf, number)
        except pypdfium2.PdfiumError:
            broken += 1
            continue
        if not text.strip():
            continue
        segments.append(Segment(position, position + len(text), page=number + 1))
        parts.append(text + _PAGE_BREAK)
        position += len(parts[-1])
        if position > source.max_text_bytes:
            raise UnreadableFile(
                "invalid_file", f"The PDF has more than {source.max_text_bytes} characters of text. Split it."
            )
    if not segments:
        reason = "its pages are damaged" if broken else "it may be a scan, and text in images is not read yet"
        raise UnreadableFile("invalid_file", f"No text was found in the PDF: {reason}.")
    return Document("".join(parts), segments=segments)


def _page_text(pdf: pypdfium2.PdfDocument, number: int) -> str:
    page = pdf[number]
    try:
        textpage = page.get_textpage()
        try:
            # PDFium marks a hyphen at a line's end with U+FFFE or U+0002 and the next line follows at once.
            return clean(textpage.get_text_range())
        finally:
            textpage.close()
    finally:
        page.close()


def _claims(content: bytes, _name: str) -> bool:
    return b"%PDF-" in content[:_HEADER_WITHIN]


PDF = Kind("pdf", called=("PDF",), parse=_parse, claims=_claims)
