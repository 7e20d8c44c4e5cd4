"""RTF: paragraphs, headings by style, tables, pictures, comments, text boxes, and what is in the margins. What was
deleted is not looked at."""

from cloister_retriever.parsing.decoding import wide_marked
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.richtext import write_rich_text

__all__ = ["RTF"]

_USUAL = (b"\\ansi", b"\\mac", b"\\pc", b"\\deff", b"\\fonttbl", b"\\pard", b"\\par", b"\\uc1")


def _parse(source: Source) -> Document:
    writer = Writer(source.max_text_bytes)
    content = wide_marked(source.content)
    write_rich_text(writer, content[content.index(b"{") :], source.album)
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The RTF document has no text.")
    return writer.document()


def _claims(look: Look) -> bool:
    """A text may begin with what begins RTF; it is RTF where control words follow."""
    head = look.head.lstrip()
    return head.startswith(b"{\\rtf") and any(word in head[:4096] for word in _USUAL)


RTF = Kind("rtf", called=("RTF",), parse=_parse, claims=_claims)
