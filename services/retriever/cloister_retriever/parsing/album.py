"""The pictures of one upload: taken under limits, counted where they are left out, and drawn anew.

What a document holds is never kept as it was: a picture is decoded here, in the confined process, and encoded again as
PNG or JPEG. So what is fetched later has no bytes of a stranger's choosing, nor the place where a photograph was taken.
"""

import contextlib
import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cloister_retriever.parsing.document import UnreadableFile

__all__ = ["FORMATS", "NO_PICTURES", "Album", "DrawnPicture", "PictureLimits", "frames_of"]

_PLUGINS = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)
"""Loaded here, since nothing can be opened behind the filter. No other format is decoded."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_LEAST_SIDE = 32
"""Pixels. What is smaller is a bullet, a rule or an icon."""

_REPEATED = 3
"""What stands in a file as often as this is a logo, or a background."""

_MOST_RAW_BYTES = 96 * 1024 * 1024
"""Of the pictures of one upload as they are in it. They are held until it is known which of them are repeated."""

_LATE = "more than can be looked at in the time that a file has"
_DAMAGED = "of a kind that is not read, or damaged"
_LINES = "drawn in lines (EMF, WMF, SVG), which is not read"
_MOST_SIDE = 2048
_SMALL_SIDE = 448
"""More than the vision models read that are used for search: 224 to 448 pixels."""

_MOST_PNG_BYTES = 1024 * 1024
_QUALITY = 90
_MOST_FRAMES = 200


class PictureLimits(NamedTuple):
    """What is taken of one upload."""

    most: int
    pixels: int
    """Of one picture, before it is decoded."""

    total_bytes: int
    """Of all of them, as they are kept."""

    seconds: float
    """Of the processor, for all of them: a file of ten thousand pictures is still a file with text."""


NO_PICTURES = PictureLimits(0, 0, 0, 0.0)


class DrawnPicture(NamedTuple):
    """A picture as it is kept."""

    media_type: Literal["image/png", "image/jpeg"]
    width: int
    height: int
    content: bytes
    small: bytes
    """At most 448 pixels wide and high: for a vision model."""


class _Taken(NamedTuple):
    content: bytes
    frame: int
    image: Image.Image | None


class Album:
    """Takes the pictures of an upload, also of the files within it.

    Args:
        limits: What is taken.
    """

    def __init__(self, limits: PictureLimits) -> None:
        self._limits = limits
        self._taken: list[_Taken] = []
        self._numbers: dict[bytes, int] = {}
        self._seen: Counter[int] = Counter()
        self._raw_bytes = 0
        self._left_out: Counter[str] = Counter()
        self._spent = 0.0

    @property
    def takes_any(self) -> bool:
        """Whether any picture is wanted."""
        return self._limits.most > 0

    def take(self, content: bytes, *, frame: int = 0) -> int | None:
        """The number of a picture by its file, or None where it is left out.

        Args:
            content: The file.
            frame: Which of its frames.
        """
        if not self.takes_any:
            return None
        name = hashlib.sha256(content).digest() + frame.to_bytes(4, "big")
        if (known := self._known(name)) is not None:
            return known
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                size = image.size
        except Exception:  # noqa: BLE001 - Pillow raises whatever its readers do: OSError, SyntaxError, struct.error
            self._left_out[_LINES if _is_of_lines(content) else _DAMAGED] += 1
            return None
        return self._put(name, _Taken(content, frame, None), size, len(content))

    def take_image(self, name: bytes, draw: Callable[[], Image.Image]) -> int | None:
        """The number of a picture that is decoded already, or None where it is left out.

        Args:
            name: The same for the same picture, wherever it stands.
            draw: Gives it; it is asked the first time only.
        """
        if not self.takes_any:
            return None
        name = hashlib.sha256(b"drawn" + name).digest()
        if (known := self._known(name)) is not None:
            return known
        image = draw()
        return self._put(name, _Taken(b"", 0, image), image.size, len(image.getbands()) * image.width * image.height)

    def leave_out(self, why: str, count: int = 1) -> None:
        """Counts pictures that were not even looked at; ``why`` stands behind ``left out because they are``."""
        if self.takes_any:
            self._left_out[why] += count

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """What is done for pictures within it counts as theirs."""
        began = time.process_time()
        try:
            yield
        finally:
            self._spent += time.process_time() - began

    def fits(self, width: int, height: int) -> bool:
        """Whether a picture of this size may be decoded; one that may not is counted."""
        if self._spent > self._limits.seconds:
            self.leave_out(_LATE)
            return False
        if min(width, height) < _LEAST_SIDE:
            self.leave_out("tiny")
        elif width * height > self._limits.pixels:
            self.leave_out(f"larger than {self._limits.pixels} pixels")
        else:
            return True
        return False

    def drawn(self) -> dict[int, DrawnPicture]:
        """Every picture that is kept, by its number, in the order in which they were taken."""
        drawn: dict[int, DrawnPicture] = {}
        total = 0
        for number, taken in enumerate(self._taken):
            if self._seen[number] >= _REPEATED:
                self._left_out["repeated all over the file"] += self._seen[number]
                continue
            if len(drawn) == self._limits.most:
                self._left_out[f"beyond the {self._limits.most} that are kept of one file"] += 1
                continue
            if self._spent > self._limits.seconds:
                self._left_out[_LATE] += 1
                continue
            try:
                with self.timed():
                    picture = _drawn(taken)
            except Exception:  # noqa: BLE001 - as in `take`
                self._left_out[_DAMAGED] += 1
                continue
            total += len(picture.content)
            if total > self._limits.total_bytes:
                total -= len(picture.content)
                self._left_out[f"beyond the {self._limits.total_bytes} bytes that are kept of one file"] += 1
                continue
            drawn[number] = picture
        return drawn

    def notes(self) -> list[str]:
        """What was left out, and why."""
        return [
            f"{count} pictures were left out: they are {why}." if count > 1 else f"A picture was left out: it is {why}."
            for why, count in self._left_out.items()
        ]

    def _known(self, name: bytes) -> int | None:
        known = self._numbers.get(name)
        if known is not None:
            self._seen[known] += 1
        return known

    def _put(self, name: bytes, taken: _Taken, size: tuple[int, int], length: int) -> int | None:
        if not self.fits(*size):
            return None
        self._raw_bytes += length
        if self._raw_bytes > _MOST_RAW_BYTES:
            self._raw_bytes -= length
            self._left_out["more than can be looked at in one file"] += 1
            return None
        number = self._numbers[name] = len(self._taken)
        self._taken.append(taken)
        self._seen[number] += 1
        return number


def _is_of_lines(content: bytes) -> bool:
    """Whether it is a drawing as Windows, or the web, keeps it: without or with the head that is told by its bytes."""
    return (
        content[40:44] == b" EMF"
        or content.startswith((b"\xd7\xcd\xc6\x9a", b"\x01\x00\x09\x00\x00\x03"))
        or b"<svg" in content[:1024]
    )


def frames_of(content: bytes) -> int:
    """How many pages a file of an image has: one, but of a TIFF.

    Raises:
        UnreadableFile: It is damaged.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return min(getattr(image, "n_frames", 1), _MOST_FRAMES) if image.format == "TIFF" else 1
    except Exception as error:
        raise UnreadableFile("invalid_file", "The image is damaged and cannot be opened.") from error


def _drawn(taken: _Taken) -> DrawnPicture:
    if taken.image is not None:
        image, is_photo = _flat(taken.image), False
    else:
        with Image.open(io.BytesIO(taken.content), formats=FORMATS) as opened:
            if taken.frame:
                opened.seek(taken.frame)
            is_photo = opened.format == "JPEG"
            opened.draft("RGB", (_MOST_SIDE, _MOST_SIDE))
            image = _flat(ImageOps.exif_transpose(opened))
    image.thumbnail((_MOST_SIDE, _MOST_SIDE))
    media_type, content = _encoded(image, is_photo=is_photo)
    if max(image.size) <= _SMALL_SIDE:
        small = content
    else:
        shrunk = image.copy()
        shrunk.thumbnail((_SMALL_SIDE, _SMALL_SIDE))
        small = _file(shrunk, "JPEG")
    return DrawnPicture(media_type, image.width, image.height, content, small)


def _flat(image: Image.Image) -> Image.Image:
    """The same in three colours, what is transparent on white."""
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        above = image.convert("RGBA")
        flat = Image.new("RGBA", above.size, "white")
        flat.alpha_composite(above)
        return flat.convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        # Sixteen bits and more for a grey: the lightest is white, the darkest black.
        grey = image.convert("F")
        low, high = (float(one) for one in grey.getextrema())  # type: ignore[arg-type] # one band, so two numbers
        factor = 255 / max(high - low, 1)
        return grey.point(lambda value: value * factor - low * factor).convert("L").convert("RGB")
    return image.convert("RGB")


def _encoded(image: Image.Image, *, is_photo: bool) -> tuple[Literal["image/png", "image/jpeg"], bytes]:
    if not is_photo:
        content = _file(image, "PNG")
        if len(content) <= _MOST_PNG_BYTES:
            return "image/png", content
    return "image/jpeg", _file(image, "JPEG")


def _file(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    # Of what the picture was read from nothing is written: a new image has no notes.
    bare = Image.frombytes(image.mode, image.size, image.tobytes())
    bare.save(out, kind, **({"quality": _QUALITY} if kind == "JPEG" else {}))
    return out.getvalue()
