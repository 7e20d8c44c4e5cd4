"""The kind of a file, by its content behind the byte order mark; its name only tells Markdown and tables from text.

First letters alone prove nothing: a note may begin with ``GIF89a`` or quote a PDF. What follows has to fit.
"""

from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look
from cloister_retriever.parsing.kinds.table import KINDS
from cloister_retriever.parsing.kinds.text import TEXT

__all__ = ["detect"]

_PICTURE = "which is not read: save it as PNG or JPEG"
_DAMAGED = "which is damaged"
_ARCHIVE = "which is not unpacked: send a ZIP, or the files in it"
_UNREAD: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a damaged ZIP archive, or an Office document that is damaged"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\x1f\x8b", f"a gzip archive, {_ARCHIVE}"),
    (0, b"BZh", f"a bzip2 archive, {_ARCHIVE}"),
    (0, b"\xfd7zXZ\x00", f"an xz archive, {_ARCHIVE}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive, {_ARCHIVE}"),
    (0, b"Rar!", f"a RAR archive, {_ARCHIVE}"),
    (0, b"(\xb5/\xfd", f"a Zstandard archive, {_ARCHIVE}"),
    (257, b"ustar", f"a tar archive, {_ARCHIVE}"),
    (0, b"\x89PNG", f"a PNG image, {_DAMAGED}"),
    (0, b"\xff\xd8\xff", f"a JPEG image, {_DAMAGED}"),
    (0, b"GIF8", f"a GIF image, {_DAMAGED}"),
    (8, b"WEBP", f"a WebP image, {_DAMAGED}"),
    (0, b"\x00\x00\x00\x0cjP  ", f"a JPEG 2000 image, {_PICTURE}"),
    (0, b"\x00\x00\x00\x0cJXL ", f"a JPEG XL image, {_PICTURE}"),
    (0, b"8BPS", f"a Photoshop image, {_PICTURE}"),
    (40, b" EMF", f"a Windows metafile, {_PICTURE}"),
    (0, b"\xd7\xcd\xc6\x9a", f"a Windows metafile, {_PICTURE}"),
    (4, b"ftypheic", f"a HEIC image, {_PICTURE}"),
    (4, b"ftypheix", f"a HEIC image, {_PICTURE}"),
    (4, b"ftypmif1", f"a HEIC image, {_PICTURE}"),
    (4, b"ftypmsf1", f"a HEIC image, {_PICTURE}"),
    (4, b"ftypavif", f"an AVIF image, {_PICTURE}"),
    (0, b"BM", f"a bitmap image, {_PICTURE}"),
    (0, b"\x00\x00\x01\x00", "an icon, which has no text"),
    (0, b"RIFF", "a sound or video, which is not read"),
    (0, b"ID3", "a sound, which is not read"),
    (0, b"OggS", "a sound or video, which is not read"),
    (0, b"fLaC", "a sound, which is not read"),
    (4, b"ftyp", "a video, which is not read"),
    (0, b"\x1aE\xdf\xa3", "a video, which is not read"),
    (0, b"\x7fELF", "a program, which has no text"),
    (0, b"MZ", "a program, which has no text"),
    (0, b"\xca\xfe\xba\xbe", "a program, which has no text"),
    (0, b"\x00asm", "a program, which has no text"),
    (0, b"SQLite format 3\x00", "a database, which is not read: export its tables as CSV"),
    (0, b"wOF", "a font, which has no text"),
    (0, b"OTTO", "a font, which has no text"),
    (0, b"\x00\x01\x00\x00\x00", "a font, which has no text"),
    (0, b"\xff\xfb", "a sound, which is not read"),
    (0, b"\xff\xf1", "a sound, which is not read"),
    (0, b"\xffWPC", "a WordPerfect document, which is not read: save it as DOCX or PDF"),
    (0, b"AC10", "a drawing of AutoCAD, which is not read: save it as PDF"),
    (0, b"AT&TFORM", "a DjVu document, which is not read: save it as PDF"),
    (0, b"ITSF", "a compiled help file, which is not read: save its pages as HTML"),
    (60, b"BOOKMOBI", "a Kindle book, which is not read: save it as EPUB"),
    (0, b"!BDN", "a mailbox of Outlook, which is not read: save its mails as EML or MSG"),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "a notebook of OneNote, which is not read: save it as PDF"),
    (0, b"bplist00", "a property list or web archive of Apple's, which is not read: save the page as HTML or PDF"),
    (0, b"L\x00\x00\x00\x01\x14\x02\x00", "a shortcut, which has no text: upload what it leads to"),
    (0, b"PAR1", "a Parquet file, which is not read: export its rows as CSV"),
)
_UNREAD_TEXTS = (
    (b"%!PS-Adobe-", "a PostScript document, which is not read: save it as PDF"),
    (b"-----BEGIN PGP MESSAGE-----", "a message that is encrypted with PGP: upload a copy that is not"),
    (b"(This file must be converted with BinHex", f"a BinHex archive, {_ARCHIVE}"),
)
_CONTAINERS = {
    "ole": "an old Office document, which is not read: save it as DOCX or PPTX",
    "encrypted": "an encrypted Office document: upload a copy that opens without a password",
    "visio": "a drawing of Visio, which is not read: save it as PDF",
    "xps": "an XPS document, which is not read: save it as PDF",
    "iwork": "a document of Apple's Pages, Numbers or Keynote, which is not read: export it as PDF or for Office",
    "opendocument": "an OpenDocument file that is no text, spreadsheet, presentation or drawing",
}
_CUT = 512
"""Bytes at the beginning that tell a text from what begins with the same letters."""


def detect(content: bytes, name: str) -> Kind:
    """The kind that claims the file; where none does, and it is nothing else that we know, text.

    Raises:
        UnreadableFile: It is something we do not read, or nothing at all.
    """
    look = Look(content, name)
    if not look.head.strip(b"\x00 \t\r\n\x0b\x0c") and not content.strip(b"\x00 \t\r\n\x0b\x0c"):
        raise UnreadableFile("invalid_file", "The file is empty.")
    found = next((kind for kind in KINDS if kind.claims(look)), None)
    if found is not None:
        return found
    what = _unread(look)
    if what is not None:
        raise UnreadableFile("unsupported_file", f"The file is {what}.")
    return TEXT


def _unread(look: Look) -> str | None:
    """What the file is that we know and do not read."""
    if look.package in _CONTAINERS:
        return _CONTAINERS[look.package]
    start = look.content[:_CUT]
    for begin, what in _UNREAD_TEXTS:
        if look.head.startswith(begin):
            return what
    for at, magic, what in _UNREAD:
        # A text may begin with "MZ" or "GIF8", and in some encoding with any two letters; a program or a picture has
        # bytes near its beginning that no text has.
        if start.startswith(magic, at) and (look.is_binary or (len(magic) > 2 and not magic.isascii())):
            return what
    return None
