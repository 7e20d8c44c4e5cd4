"""Pictures as files of their own: what is said of them, and their pages, where a TIFF has several."""

import io
import re

from cloister_common.wire.images import MOST_PIXELS
from PIL import Image, ImageOps

from cloister_retriever.parsing.album import FORMATS, frames_of
from cloister_retriever.parsing.document import Document
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.ocr import MOST_EDGE
from cloister_retriever.parsing.outline import Writer

__all__ = ["IMAGE"]

_IMAGE_DESCRIPTION = 0x010E
"""Exif's tag (CIPA DC-008, 4.6.4)."""

_NOTED = ("Description", "Comment", "Title")
"""PNG's keywords for what a picture shows (PNG, 11.3.3.2)."""

_OF_A_CAMERA = frozenset(
    {
        *("img", "dsc", "dscn", "dscf", "pxl", "image", "picture", "photo", "foto", "bild", "scan", "screenshot"),
        *("mvimg", "whatsapp", "signal", "unnamed", "untitled", "download", "file", "at", "copy", "edited"),
    }
)
_WORD = re.compile(r"[^\W\d_]{1,40}")

_UNDESCRIBED = (
    "The picture has no description{known}. Give it one: 'description' among the file's attributes, or a file beside "
    "it in the vector store that is called as it and .txt, .md or .json."
)


def _parse(source: Source) -> Document:
    count = frames_of(source.content)
    writer = Writer(source.max_text_bytes)
    described = " ".join((source.description or "").split()) or _noted(source.content)
    name = _words_of(source.name)
    if name and not described:
        writer.paragraph(name)
    read = False
    for frame in range(count):
        if count > 1:
            writer.page(frame + 1)
        writer.picture(source.album.take(source.content, frame=frame), described)
        seen = _seen(source, frame)
        writer.paragraph(seen)
        read = read or bool(seen)
    if read:
        writer.note("Text was read from the picture, and may have errors.")
    elif not described:
        known = ", and is found by the words of its name" if name else ""
        writer.note(_UNDESCRIBED.format(known=known))
    if count == 1 and _moves(source.content):
        writer.note("The picture moves: of its frames the first is kept.")
    document = writer.document()
    document.is_picture = True
    return document


def _seen(source: Source, frame: int) -> str:
    """The text in a picture."""
    if not source.eyes.can_read:
        return ""
    try:
        with Image.open(io.BytesIO(source.content), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                return ""
            image.seek(frame)
            image.draft("RGB", (MOST_EDGE, MOST_EDGE))
            return source.eyes.read(ImageOps.exif_transpose(image))
    except Exception:  # noqa: BLE001 - Pillow raises whatever its readers do; the album says that it is damaged
        return ""


def _moves(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 - Pillow raises whatever its readers do; the album says that it is damaged
        return False


def _noted(content: bytes) -> str:
    """What whoever made the picture wrote into it."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            said = [image.getexif().get(_IMAGE_DESCRIPTION), *(image.info.get(key) for key in _NOTED)]
    except Exception:  # noqa: BLE001 - what is damaged in a picture's notes makes Pillow raise anything
        return ""
    return next((" ".join(text.split()) for text in said if isinstance(text, str) and text.strip()), "")[:2_000]


def _words_of(name: str) -> str:
    """The words in a file's name, if a person gave it."""
    words = _WORD.findall(name.rpartition("/")[2].rpartition(".")[0])
    said = (word for word in words if len(word) > 2 and word.lower() not in _OF_A_CAMERA)
    return " ".join(words) if any(said) else ""


def _claims(look: Look) -> bool:
    """By what the file begins with and has behind that: a text may begin like any of them."""
    start = look.content[:16]
    if start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return True
    if start.startswith((b"GIF87a", b"GIF89a")) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        return look.is_binary
    return start.startswith((b"II*\x00", b"MM\x00*"))


IMAGE = Kind("image", called=("PNG", "JPEG", "WebP", "TIFF", "GIF"), parse=_parse, claims=_claims)
