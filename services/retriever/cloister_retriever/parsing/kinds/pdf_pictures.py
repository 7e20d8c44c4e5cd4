"""The pictures of a page of a PDF, and which of its paragraphs each stands beside."""

import itertools
from typing import NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

from cloister_retriever.parsing.album import Album
from cloister_retriever.parsing.layout import Block

__all__ = ["PlacedPicture", "page_pictures", "placed"]

_MOST_OBJECTS = 5_000
"""Of a page. A drawing of a town has more, and no picture among them."""

_WHOLE_PAGE = 0.75
"""Of a page's area: a picture that covers as much is its background, or the scan whose letters lie over it."""

_LETTERS = 100
_DEEPEST = 4


class PlacedPicture(NamedTuple):
    """A picture by its number in the album, and the block that it stands before."""

    number: int
    before: int


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
    for shown in itertools.islice(objects, _MOST_OBJECTS):
        try:
            box = _Box(*shown.get_bounds())
            if not album.fits(*shown.get_px_size()):
                continue
            if box.area > whole and letters > _LETTERS:
                album.leave_out("as large as a page with text: a background, or a scan of it")
                continue
            bitmap = shown.get_bitmap(render=False)
            number = album.take_image(bitmap.to_pil().rotate(-page.get_rotation(), expand=True))
        except (pypdfium2.PdfiumError, ValueError, RuntimeError):
            album.leave_out("of a kind that is not read, or damaged")
            continue
        if number is not None:
            found.append(PlacedPicture(number, placed(box, blocks)))
    return found


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
