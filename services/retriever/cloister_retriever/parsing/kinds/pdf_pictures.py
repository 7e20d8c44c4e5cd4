"""The pictures of a page of a PDF, and which of its paragraphs each stands beside."""

import ctypes
import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image

from cloister_retriever.parsing.album import Album
from cloister_retriever.parsing.layout import Block

__all__ = ["PlacedPicture", "page_pictures", "placed"]

_MOST_OBJECTS = 5_000
"""Of a page. A drawing of a town has more, and no picture among them."""

_WHOLE_PAGE = 0.75
"""Of a page's area: a picture that covers as much is its background, or the scan whose letters lie over it."""

_LETTERS = 100
_DEEPEST = 4
_MOST_DRAWN = 4
"""Pixels of a picture as it is drawn, for one of its own: one that lies aslant takes twice as many. One that is drawn
out farther is taken as it is."""

_DEEPEST_TAG = 32
_MOST_TAGS = 10_000
_LONGEST_TEXT = 4_000


class PlacedPicture(NamedTuple):
    """A picture by its number in the album, the block that it stands before, and the text that stands for it."""

    number: int
    before: int
    text: str = ""


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    @property
    def area(self) -> float:
        return max(self.right - self.left, 0.0) * max(self.top - self.bottom, 0.0)


def page_pictures(page: pypdfium2.PdfPage, blocks: list[Block], album: Album) -> list[PlacedPicture]:
    """The pictures of a page in the order in which they are read; ``blocks`` is its text."""
    if not album.takes_any:
        return []
    with album.timed():
        return sorted(_pictures(page, blocks, album), key=lambda one: one.before)


def _pictures(page: pypdfium2.PdfPage, blocks: list[Block], album: Album) -> list[PlacedPicture]:
    found = []
    whole = _WHOLE_PAGE * page.get_width() * page.get_height()
    letters = sum(len(line.text) for block in blocks for line in block)
    objects = page.get_objects(filter=(pdfium.FPDF_PAGEOBJ_IMAGE,), max_depth=_DEEPEST)
    texts: dict[int, str] | None = None
    for shown in itertools.islice(objects, _MOST_OBJECTS):
        try:
            _unwrap(shown)
            box = _Box(*shown.get_bounds())
            if not album.fits(*shown.get_px_size()):
                continue
            if box.area > whole and letters > _LETTERS:
                album.leave_out("as large as a page with text: a background, or a scan of it")
                continue
            number = album.take_image(_name(shown), functools.partial(_drawn, shown, page.get_rotation()))
        except (pypdfium2.PdfiumError, ValueError, RuntimeError, ArithmeticError):
            album.leave_out("of a kind that is not read, or damaged")
            continue
        if number is not None:
            texts = _texts(page) if texts is None else texts
            text = texts.get(pdfium.FPDFPageObj_GetMarkedContentID(shown.raw), "")
            found.append(PlacedPicture(number, placed(box, blocks), text))
    return found


def _unwrap(shown: pypdfium2.PdfImage) -> None:
    """Gives a picture within a form, which may be drawn anywhere, its place on the page."""
    matrix, within = shown.get_matrix(), shown.container
    while within is not None:
        matrix, within = matrix.multiply(within.get_matrix()), within.container
    if shown.container is not None:
        shown.set_matrix(matrix)


def _name(shown: pypdfium2.PdfImage) -> bytes:
    """The same for a picture that is drawn twice, whatever its size; not if it lies in another way."""
    lies = tuple(round(part, 1) for part in _direction(shown))
    return repr((shown.get_px_size(), lies)).encode() + bytes(shown.get_data())


def _direction(shown: pypdfium2.PdfImage) -> tuple[float, float, float, float]:
    a, b, c, d, _, _ = shown.get_matrix().get()
    across, up = max(abs(a), abs(b)) or 1.0, max(abs(c), abs(d)) or 1.0
    return a / across, b / across, c / up, d / up


def _drawn(shown: pypdfium2.PdfImage, rotation: int) -> Image.Image:
    """A picture as the page shows it: turned, and without what is masked out."""
    width, height = shown.get_px_size()
    box = _Box(*shown.get_bounds())
    across, up = box.right - box.left, box.top - box.bottom
    if (width < height) != (across < up):
        width, height = height, width
    scale = max(width / across, height / up)
    fits = across * scale * up * scale <= _MOST_DRAWN * width * height
    image: Image.Image = shown.get_bitmap(render=fits).to_pil()
    return image.rotate(-rotation, expand=True)


def _texts(page: pypdfium2.PdfPage) -> dict[int, str]:
    """What a tagged PDF says that stands for its figures, by the number of their marked content (PDF 1.7, 14.9.3)."""
    tree = pdfium.FPDF_StructTree_GetForPage(page.raw)
    if not tree:
        return {}
    found: dict[int, str] = {}
    try:
        tags = (
            tag
            for number in range(pdfium.FPDF_StructTree_CountChildren(tree))
            for tag in _tags(pdfium.FPDF_StructTree_GetChildAtIndex(tree, number), "", _DEEPEST_TAG)
        )
        for tag, text in itertools.islice(tags, _MOST_TAGS):
            for number in range(pdfium.FPDF_StructElement_GetMarkedContentIdCount(tag) if text else 0):
                found[pdfium.FPDF_StructElement_GetMarkedContentIdAtIndex(tag, number)] = text
    finally:
        pdfium.FPDF_StructTree_Close(tree)
    found.pop(-1, None)
    return found


def _tags(tag: Any, text: str, deepest: int) -> Iterator[tuple[Any, str]]:
    """A tag and those in it, each with the text that stands for it, or for what it is in."""
    if not tag or deepest == 0:
        return
    length = pdfium.FPDF_StructElement_GetAltText(tag, None, 0)
    if 2 < length <= _LONGEST_TEXT:
        buffer = ctypes.create_string_buffer(length)
        pdfium.FPDF_StructElement_GetAltText(tag, buffer, length)
        text = buffer.raw.decode("utf-16-le", "replace").rstrip("\0")
    yield tag, text
    for number in range(pdfium.FPDF_StructElement_CountChildren(tag)):
        yield from _tags(pdfium.FPDF_StructElement_GetChildAtIndex(tag, number), text, deepest - 1)


def placed(box: tuple[float, float, float, float], blocks: list[Block]) -> int:
    """The number of the block before which a picture stands: the nearest if that is below it, else the one after it.

    Args:
        box: Left, bottom, right and top of the picture.
        blocks: The page's text in the order in which it is read.
    """
    if not blocks:
        return 0
    left, bottom, right, top = box
    best, nearest = 0, float("inf")
    for number, block in enumerate(blocks):
        lines = [line.box for line in block]
        beside = max(min(one[0] for one in lines) - right, left - max(one[2] for one in lines), 0.0)
        above = min(one[1] for one in lines) - top
        below = bottom - max(one[3] for one in lines)
        # What stands below a picture is rather its caption than what stands above.
        distance = beside + (max(above, 0.0) * 1.5 if above > below else max(below, 0.0))
        if distance < nearest:
            best, nearest = (number + 1 if above > below else number), distance
    return best
