"""Images for models: decoded and encoded anew, with nothing but pixels in them, and none that is a trick."""

import base64
import io
import struct
import zlib
from typing import Any

import pytest
from cloister_common.wire.images import MOST_IMAGE_BYTES, MOST_PIXELS, ReadImage
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.model_image import model_image
from PIL import Image

EDGE = 512


def made(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 24), colour: Any = "red", **more: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, kind, **more)
    return out.getvalue()


def decoded(read: ReadImage) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(read.url.partition(",")[2])))
    image.load()
    return image


def refusal(content: bytes) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as raised:
        model_image(content, EDGE)
    assert raised.value.message.endswith(".")
    return raised.value


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_every_kind_becomes_one_that_pods_decode(kind: str) -> None:
    read = model_image(made(kind), EDGE)
    image = decoded(read)
    assert (read.width, read.height) == image.size == (40, 24)
    assert (image.format, image.mode) == ("JPEG" if kind == "JPEG" else "PNG", "RGB")
    red, green, blue = image.getpixel((20, 12))  # type: ignore[misc]  # of an RGB image
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16", "CMYK"])
def test_every_mode_becomes_colours(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert decoded(model_image(made(kind, mode, colour=None), EDGE)).mode == "RGB"


def test_what_is_transparent_is_white() -> None:
    assert decoded(model_image(made("PNG", "RGBA", colour=(255, 0, 0, 0)), EDGE)).getpixel((1, 1)) == (255, 255, 255)


def test_a_large_image_is_made_smaller_and_a_small_one_left() -> None:
    assert decoded(model_image(made("PNG", size=(2000, 1000)), EDGE)).size == (512, 256)
    assert decoded(model_image(made("JPEG", size=(30, 3000)), EDGE)).size == (5, 512)
    assert decoded(model_image(made("PNG", size=(3, 2)), EDGE)).size == (3, 2)


def test_nothing_of_the_camera_stays_but_how_it_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010E] = "Anna's kitchen"
    content = made("JPEG", exif=exif)
    assert b"kitchen" in content
    read = model_image(content, EDGE)
    assert decoded(read).size == (24, 40)
    assert b"kitchen" not in base64.b64decode(read.url.partition(",")[2])


def test_an_image_with_much_in_it_comes_out_within_bounds() -> None:
    noise = Image.effect_noise((1600, 1600), 100).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")
    read = model_image(out.getvalue(), 2048)
    assert len(base64.b64decode(read.url.partition(",")[2])) <= MOST_IMAGE_BYTES
    assert decoded(read).size == (1600, 1600)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_a_bomb_is_refused_by_its_size_before_it_is_decoded() -> None:
    side = int(MOST_PIXELS**0.5) + 10
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(side * (side // 8 + 2)), 9))
    assert f"{side} x {side}" in refusal(bomb + chunk(b"IEND", b"")).message


def test_an_animation_is_refused() -> None:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(out, "GIF", save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")])
    assert "animated" in refusal(out.getvalue()).message


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "unsupported_file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_file"),
        (b"%PDF-1.7\n", "unsupported_file"),
        (made("BMP"), "unsupported_file"),
        (made("TIFF"), "unsupported_file"),
        (made("PNG")[:60], "invalid_file"),
        (made("JPEG")[:300], "invalid_file"),
        (made("GIF")[:40], "invalid_file"),
        (made("WEBP")[:60], "invalid_file"),
        (made("PNG").replace(b"IDAT", b"IDAX"), "unsupported_file"),
    ],
    ids=["empty", "svg", "pdf", "bmp", "tiff", "cut png", "cut jpeg", "cut gif", "cut webp", "no pixels"],
)
def test_what_is_no_image_is_told(content: bytes, code: str) -> None:
    assert refusal(content).code == code
