"""An image for a model: decoded, and encoded anew, in the confined process of one file.

So what is stored in conversations and decoded in model pods was written here, by two encoders: no trick against a
decoder, no place and no name that a camera wrote into it, no second picture behind the first.
"""

import base64
import io
import struct
import zlib

from cloister_common.wire.images import MOST_IMAGE_BYTES, MOST_PIXELS, ReadImage
from PIL import Image, ImageOps, UnidentifiedImageError

from cloister_retriever.parsing.document import UnreadableFile

__all__ = ["model_image", "warm_up_images"]

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_QUALITIES = (92, 80, 65, 45)
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise of a file that is not what it says."""

# Counted here, before anything is decoded; Pillow would warn first.
Image.MAX_IMAGE_PIXELS = None


def model_image(content: bytes, edge: int) -> ReadImage:
    """The image, no longer than ``edge`` pixels a side.

    Raises:
        UnreadableFile: It is none, is broken, moves, or is over a limit.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return _picture(image, edge)
    except UnidentifiedImageError as error:
        raise UnreadableFile(
            "unsupported_file", "The image is none that is known here. Send a PNG, JPEG, WebP or GIF."
        ) from error
    except _BROKEN as error:
        raise UnreadableFile("invalid_file", "The image is damaged.") from error


def warm_up_images() -> None:
    """Loads all of the decoders and encoders: behind the filter nothing can be opened."""
    for kind in _FORMATS:
        for mode in ("P", "RGB"):
            out = io.BytesIO()
            Image.new(mode, (2, 2)).convert("RGB" if kind in {"JPEG", "WEBP"} else mode).save(out, kind)
            model_image(out.getvalue(), 1)
    _encoded(Image.new("RGB", (2, 2)), "PNG")


def _picture(image: Image.Image, edge: int) -> ReadImage:
    if image.width * image.height > MOST_PIXELS:
        raise UnreadableFile(
            "invalid_file",
            f"The image has {image.width} x {image.height} pixels; the limit is {MOST_PIXELS // 10**6} million. Send a "
            "smaller one.",
        )
    if getattr(image, "is_animated", False):
        raise UnreadableFile("invalid_file", "The image is animated. Send one picture of it.")
    kind = image.format
    image.draft("RGB", (edge, edge))  # a JPEG can be decoded at a fraction of its size
    pixels = ImageOps.exif_transpose(_colours(image))
    pixels.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=3.0)
    flat = _flat(pixels)
    media_type, data = _encoded(flat, "JPEG" if kind == "JPEG" else "PNG")
    url = f"data:image/{media_type};base64,{base64.b64encode(data).decode()}"
    return ReadImage(url=url, width=flat.width, height=flat.height)


def _colours(image: Image.Image) -> Image.Image:
    """The image in colours that can be made smaller, with what says how it is turned."""
    if image.mode.startswith(("I", "F")):  # grey in 16 bits
        return image.point(lambda value: value / 256).convert("L")
    if image.mode in {"L", "RGB", "RGBA", "LA"} and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if "transparency" in image.info or image.mode in {"PA", "La", "RGBa"} else "RGB")


def _flat(image: Image.Image) -> Image.Image:
    """Without transparency, on white, as models are given it."""
    if image.mode not in {"RGBA", "LA"}:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _encoded(image: Image.Image, kind: str) -> tuple[str, bytes]:
    """As a PNG where nothing was lost yet and it is small enough so, else as a JPEG."""
    out = io.BytesIO()
    if kind == "PNG":
        image.save(out, "PNG", compress_level=4)
        if len(out.getvalue()) <= MOST_IMAGE_BYTES:
            return "png", out.getvalue()
    for quality in _QUALITIES:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        if len(out.getvalue()) <= MOST_IMAGE_BYTES:
            return "jpeg", out.getvalue()
    raise UnreadableFile("invalid_file", "The image has too much in it. Send a smaller one, or 'detail': 'low'.")
