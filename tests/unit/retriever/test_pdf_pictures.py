"""Pictures in a PDF are what its pages show: turned, mirrored, masked, within forms, in any colours; and what a tagged
PDF says of them."""

import io
import zlib

import pytest
from cloister_retriever.parsing.album import Album, PictureLimits
from cloister_retriever.parsing.document import Document
from cloister_retriever.parsing.reader import Reader
from PIL import Image, ImageDraw

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
WORDS = b" BT /F 12 Tf 50 480 Td (Figure 1: A square) Tj 0 -300 Td (Far away words) Tj ET"
UPRIGHT = b"q 240 0 0 160 50 500 cm /I Do Q"
PLAIN = b"/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/FlateDecode"


def scene() -> Image.Image:
    """Red on the left above, blue on the right below, on white."""
    image = Image.new("RGB", (120, 80), "white")
    ImageDraw.Draw(image).rectangle((0, 0, 59, 39), fill="red")
    ImageDraw.Draw(image).rectangle((60, 40, 119, 79), fill="blue")
    return image


def of_two() -> Image.Image:
    """The scene in black and white: the corners are black."""
    return scene().convert("L").point(lambda value: 255 if value > 200 else 0).convert("1")


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def packed(image: Image.Image) -> bytes:
    return zlib.compress(image.tobytes())


def drawn(kind: bytes, data: bytes, size: tuple[int, int] = (120, 80)) -> bytes:
    head = b"<</Type/XObject/Subtype/Image/Width %d/Height %d" % size
    return head + kind + b"/Length %d>>stream\n" % len(data) + data + b"\nendstream"


def pdf(picture: bytes, *beside: bytes, content: bytes = UPRIGHT, page: bytes = b"", catalog: bytes = b"") -> bytes:
    """A page with a picture, and objects from number 7 on."""
    content += WORDS
    objects = [
        b"<</Type/Catalog/Pages 2 0 R" + catalog + b">>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R"
        + page
        + b"/Resources<</XObject<</I 5 0 R>>/Font<</F 6 0 R>>>>>>",
        b"<</Length %d>>stream\n" % len(content) + content + b"\nendstream",
        picture,
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *beside,
    ]
    numbered = b"\n".join(b"%d 0 obj%s endobj" % (number, one) for number, one in enumerate(objects, 1))
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + numbered + b"\ntrailer<</Root 1 0 R>>\n%%EOF"


def read(content: bytes) -> tuple[Document, list[Image.Image]]:
    """What was read, and the pictures as they are kept."""
    album = Album(PictureLimits(20, 10_000_000, 10_000_000, 60.0))
    document = Reader(1_000_000, album=album).read(content, "a.pdf")
    kept = [Image.open(io.BytesIO(one.content)).convert("RGB") for one in album.drawn().values()]
    return document, kept


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Left and right above, left and right below."""
    width, height = image.size
    points = [(image.getpixel((width * x // 4, height * y // 4))) for y in (1, 3) for x in (1, 3)]
    return [point for point in points if isinstance(point, tuple)]


def near(seen: list[tuple[int, ...]], wanted: list[tuple[int, int, int]]) -> bool:
    """Whether colours are the same but for what a printer's inks make of them."""
    pairs = zip(seen, wanted, strict=True)
    return all(abs(one - other) < 150 for pair in pairs for one, other in zip(*pair, strict=True))


@pytest.mark.parametrize(
    ("picture", "shown"),
    [
        (drawn(PLAIN, packed(scene())), [RED, WHITE, WHITE, BLUE]),
        (drawn(PLAIN.replace(b"RGB", b"CMYK"), packed(scene().convert("CMYK"))), [RED, WHITE, WHITE, BLUE]),
        (
            drawn(
                b"/ColorSpace/DeviceCMYK/BitsPerComponent 8/Filter/DCTDecode/Decode[1 0 1 0 1 0 1 0]",
                encoded(scene().convert("CMYK"), "JPEG"),
            ),
            [RED, WHITE, WHITE, BLUE],
        ),
        (drawn(b"/Filter/JPXDecode", encoded(scene(), "JPEG2000")), [RED, WHITE, WHITE, BLUE]),
        (
            drawn(b"/ColorSpace/DeviceGray/BitsPerComponent 1/Filter/FlateDecode", packed(of_two())),
            [BLACK, WHITE, WHITE, BLACK],
        ),
        (drawn(b"/ImageMask true/BitsPerComponent 1/Filter/FlateDecode", packed(of_two())), [RED, WHITE, WHITE, RED]),
    ],
    ids=["rgb", "cmyk", "cmyk jpeg", "jpeg 2000", "one bit", "stencil"],
)
def test_a_picture_in_any_colours_is_what_the_page_shows(picture: bytes, shown: list[tuple[int, int, int]]) -> None:
    _, (kept,) = read(pdf(picture, content=b"1 0 0 rg " + UPRIGHT))
    assert near(corners(kept), shown)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        (b"0 240 -160 0 300 500", [WHITE, BLUE, RED, WHITE]),
        (b"0 -240 160 0 50 740", [WHITE, RED, BLUE, WHITE]),
        (b"-240 0 0 -160 290 660", [BLUE, WHITE, WHITE, RED]),
        (b"240 0 0 -160 50 660", [WHITE, BLUE, RED, WHITE]),
    ],
    ids=["to the left", "to the right", "upside down", "mirrored"],
)
def test_a_picture_that_is_turned_stands_as_on_the_page(matrix: bytes, shown: list[tuple[int, int, int]]) -> None:
    _, (kept,) = read(pdf(drawn(PLAIN, packed(scene())), content=b"q " + matrix + b" cm /I Do Q"))
    assert near(corners(kept), shown)


def test_what_is_masked_out_of_a_picture_is_not_seen() -> None:
    mask = Image.new("L", (120, 80), 255)
    ImageDraw.Draw(mask).rectangle((0, 0, 59, 79), fill=0)
    grey = drawn(PLAIN.replace(b"RGB", b"Gray"), packed(mask))
    _, (kept,) = read(pdf(drawn(PLAIN + b"/SMask 7 0 R", packed(scene())), grey))
    assert near(corners(kept), [WHITE, WHITE, WHITE, BLUE])


def test_a_picture_within_a_form_stands_where_the_form_does() -> None:
    inner = b"q 0 240 -160 0 160 0 cm /J Do Q"
    form = b"<</Type/XObject/Subtype/Form/BBox[0 0 300 300]/Resources<</XObject<</J 7 0 R>>>>/Length %d>>" % len(inner)
    content = pdf(
        form + b"stream\n" + inner + b"\nendstream",
        drawn(PLAIN, packed(scene())),
        content=b"q 0 -1 1 0 50 660 cm /I Do Q",
    )
    document, (kept,) = read(content)
    assert near(corners(kept), [RED, WHITE, WHITE, BLUE]), "turned to the left, and back"
    assert document.pictures[0].at == 0, "above the line right below it"


@pytest.mark.parametrize("matrix", [b"0 0 0 0 50 500", b"240 0 0 0 50 500", b"1e9 0 0 1e-9 50 500", b"1 1 1 1 5 5"])
def test_a_picture_that_is_drawn_out_of_all_shape_costs_no_more_than_its_pixels(matrix: bytes) -> None:
    document, kept = read(pdf(drawn(PLAIN, packed(scene())), content=b"q " + matrix + b" cm /I Do Q"))
    assert "Figure 1" in document.text
    assert all(image.width * image.height <= 4 * 120 * 80 for image in kept)


def test_a_logo_is_known_again_in_another_place_and_size() -> None:
    places = [b"q %d 0 0 %d 50.%d 500 cm /I Do Q " % (240 + one, 160 + one, one) for one in range(3)]
    _, kept = read(pdf(drawn(PLAIN, packed(scene())), content=b"".join(places)))
    assert kept == [], "what stands there three times is a logo"


def test_what_a_tagged_pdf_says_of_a_figure_describes_it() -> None:
    document, _ = read(
        pdf(
            drawn(PLAIN, packed(scene())),
            b"<</Type/StructTreeRoot/K 8 0 R/ParentTree<</Nums[0[9 0 R]]>>>>",
            b"<</Type/StructElem/S/Document/P 7 0 R/K[9 0 R 8 0 R]>>",
            b"<</Type/StructElem/S/Figure/P 8 0 R/Alt(The old harbour crane)/Pg 3 0 R/K 0>>",
            content=b"/Figure <</MCID 0>> BDC " + UPRIGHT + b" EMC",
            page=b"/StructParents 0",
            catalog=b"/MarkInfo<</Marked true>>/StructTreeRoot 7 0 R",
        )
    )
    (picture,) = document.pictures
    assert picture.described is not None
    assert document.text[slice(*picture.described)] == "The old harbour crane"
