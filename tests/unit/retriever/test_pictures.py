"""Pictures in documents: what is taken, and in which words. No process is started here."""

import base64
import io
from collections.abc import Callable

import pytest
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.sidecars import description_in, picture_of
from PIL import Image

from tests.support.illustrated import docx_with, epub_with, html_with, odt_with, pdf_with, picture, pptx_with, scan
from tests.support.office import eml, zipped
from tests.support.retriever_memory import read_here

Made = Callable[..., bytes]
KINDS: dict[str, tuple[str, Made]] = {
    "pdf": ("report.pdf", pdf_with),
    "docx": ("report.docx", docx_with),
    "pptx": ("report.pptx", pptx_with),
    "html": ("report.html", html_with),
    "epub": ("report.epub", epub_with),
    "odt": ("report.odt", odt_with),
}
EVERY = pytest.mark.parametrize("kind", KINDS)
BEFORE, AFTER = "The harbour was built in the spring.", "Ferries leave from it every morning."


@EVERY
def test_a_picture_comes_with_its_description(kind: str) -> None:
    name, made = KINDS[kind]
    parsed = read_here(made(picture("red"), before=BEFORE, after=AFTER, alt="A crimson sail at dusk"), name)
    (shown,), words = parsed.pictures, parsed.chunks[-1]
    assert shown.by == "description"
    assert "A crimson sail at dusk" in parsed.text[words.start : words.end]
    assert BEFORE not in parsed.text[words.start : words.end]
    assert (words.picture, shown.page) == (0, 2 if kind in {"pdf", "pptx"} else None)
    with Image.open(io.BytesIO(shown.content)) as image:
        assert (image.size, image.getpixel((48, 48))) == ((96, 96), (255, 0, 0))


@pytest.mark.parametrize("kind", ["html", "docx", "epub"])
def test_a_caption_describes_a_picture_together_with_its_own_text(kind: str) -> None:
    name, made = KINDS[kind]
    document = made(picture("red"), before=BEFORE, after=AFTER, alt="A sail", caption="Regatta of 1912")
    parsed = read_here(document, name)
    words = parsed.chunks[-1]
    assert parsed.pictures[0].by == "description"
    assert parsed.text[words.start : words.end].split("\n\n") == ["A sail", "Regatta of 1912"]


@EVERY
def test_a_picture_without_description_comes_with_what_stands_around_it(kind: str) -> None:
    name, made = KINDS[kind]
    alt = "" if kind == "pdf" else "image1.png"
    parsed = read_here(made(picture("red"), before=BEFORE, after=AFTER, alt=alt), name)
    words = parsed.chunks[-1]
    assert parsed.pictures[0].by == "surroundings"
    assert parsed.text[words.start : words.end].split() == [*BEFORE.split(), *AFTER.split()]
    assert "image1.png" not in parsed.text


@EVERY
def test_the_caption_line_counts_before_other_text_around(kind: str) -> None:
    name, made = KINDS[kind]
    caption = "Abb. 2: Ein roter Ballon"
    parsed = read_here(made(picture("red"), before=BEFORE, after=AFTER, caption=caption), name)
    words = parsed.chunks[-1]
    assert parsed.pictures[0].by == "description"
    assert parsed.text[words.start : words.end].splitlines()[0] == caption
    assert BEFORE not in parsed.text[words.start : words.end]


def test_the_text_around_is_the_nearest_and_short() -> None:
    far, near = "Far away there are hills. " * 40, "Right here there is a lake."
    parsed = read_here(html_with(picture("red"), before=near, after=far), "a.html")
    words = parsed.chunks[-1]
    assert parsed.text[words.start : words.end] == near


def test_a_picture_of_a_mail_is_found_by_the_words_that_it_stands_in() -> None:
    parsed = read_here(eml("Regatta", BEFORE, {"crimson-sail.png": picture("red")}), "a.eml")
    words = parsed.chunks[-1]
    assert [shown.by for shown in parsed.pictures] == ["surroundings"]
    assert "crimson sail" in parsed.text[words.start : words.end]


def test_tiny_pictures_and_repeated_ones_are_left_out_and_counted() -> None:
    logo, dot = picture("blue"), picture("green", side=8)
    address = [f"data:image/png;base64,{base64.b64encode(one).decode()}" for one in (logo, dot, picture("red"))]
    page = "".join(f'<p>Words {n}</p><img src="{address[0]}"><img src="{address[1]}">' for n in range(4))
    parsed = read_here(f'<html>{page}<img src="{address[2]}"></html>'.encode(), "a.html")
    assert len(parsed.pictures) == 1
    assert parsed.notes == [
        "4 pictures were left out: they are tiny.",
        "4 pictures were left out: they are repeated all over the file.",
    ]


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"most": 1}, "beyond the 1 that are kept"),
        ({"pixels": 9_000}, "larger than 9000 pixels"),
        ({"total_bytes": 200}, "beyond the 200 bytes"),
        ({"seconds": -1}, "the time that a file has"),
    ],
)
def test_what_is_beyond_a_limit_is_left_out_and_the_text_is_read(limits: dict[str, int], why: str) -> None:
    pictures = "".join(
        f'<img src="data:image/png;base64,{base64.b64encode(picture(colour)).decode()}">' for colour in ("red", "blue")
    )
    parsed = read_here(f"<html><p>Words</p>{pictures}</html>".encode(), "a.html", limits=limits)
    assert len(parsed.pictures) < 2
    assert "Words" in parsed.text
    assert why in " ".join(parsed.notes)


def test_no_bytes_of_a_pictures_file_are_kept() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    Image.open(io.BytesIO(picture("red"))).save(out, "JPEG", exif=exif, comment=b"secret words")
    parsed = read_here(out.getvalue() + b"secret tail", "a.jpg")
    assert parsed.pictures[0].media_type == "image/jpeg"
    assert b"secret" not in parsed.pictures[0].content
    assert parsed.text == "secret place"  # what its maker says that it shows


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_a_picture_is_a_file_of_its_own(kind: str) -> None:
    parsed = read_here(picture("red", kind), "harbour at dusk." + kind.lower(), description="A crimson sail")
    assert (parsed.text, parsed.is_picture, len(parsed.pictures)) == ("A crimson sail", True, 1)
    named = read_here(picture("red", kind), "harbour at dusk." + kind.lower())
    assert (named.text, named.pictures[0].by) == ("harbour at dusk", "surroundings")
    assert "no description" in named.notes[0]
    unnamed = read_here(picture("red", kind), "IMG_2041." + kind.lower())
    assert (unnamed.text, unnamed.chunks, unnamed.pictures[0].by) == ("", [], None)


def test_pages_of_a_tiff_are_pictures_with_their_numbers() -> None:
    out = io.BytesIO()
    pages = [Image.open(io.BytesIO(picture(colour))) for colour in ("red", "blue")]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    parsed = read_here(out.getvalue(), "fax.tif", by_sight=True)
    assert [shown.page for shown in parsed.pictures] == [1, 2]


def test_transparency_and_sixteen_bits_become_what_a_person_sees() -> None:
    for mode, colour, seen in (("RGBA", (255, 0, 0, 0), (255, 255, 255)), ("I;16", 40_000, (0, 0, 0))):
        out = io.BytesIO()
        Image.new(mode, (64, 64), colour).save(out, "PNG")
        (shown,) = read_here(out.getvalue(), "a.png").pictures
        with Image.open(io.BytesIO(shown.content)) as image:
            assert image.getpixel((5, 5)) == seen


def test_a_damaged_picture_spoils_no_document() -> None:
    for damaged in (picture("red")[:60], b"\x89PNG\r\n\x1a\n" + bytes(64), b"<svf/>"):
        parsed = read_here(docx_with(damaged, before=BEFORE), "a.docx")
        assert (parsed.text, parsed.pictures) == (BEFORE, [])
        assert parsed.notes == ["A picture was left out: it is of a kind that is not read, or damaged."]


def test_pages_that_are_only_a_picture_are_kept_where_a_model_sees_them() -> None:
    parsed = read_here(scan(picture("red")), "scan.pdf", by_sight=True)
    assert [(shown.page, shown.by) for shown in parsed.pictures] == [(1, None)]
    assert "Page 1 has no text" in parsed.notes[0]
    with pytest.raises(UnreadableFile, match="no model for these is set up") as refused:
        read_here(scan(picture("red")), "scan.pdf")
    assert "scanned" in refused.value.message


def test_a_file_beside_a_picture_in_an_archive_describes_it() -> None:
    files: dict[str, str | bytes] = {
        "a/sail.jpg": picture("red", "JPEG"),
        "a/sail.jpg.json": '{"title": "sail.jpg", "description": "A crimson sail"}',
        "b/sail.jpg.txt": "About another one",
    }
    parsed = read_here(zipped(files), "photos.zip")
    words = parsed.chunks[-1]
    assert (parsed.pictures[0].by, parsed.text[words.start : words.end]) == ("description", "A crimson sail")
    assert parsed.text.count("A crimson sail") == 1
    assert "About another one" in parsed.text


def test_names_of_describing_files() -> None:
    assert picture_of("photo.JPG.txt") == "photo.JPG"
    assert [picture_of(name) for name in ("photo.txt", "notes.pdf.md", "photo.jpg", ".jpg.txt")] == [None] * 4
    assert description_in("a.png.json", '{"alt": " A  sail "}') == "A sail"
    assert description_in("a.png.json", "[1]") == description_in("a.png.json", "{") == ""


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("I;16", "PNG"), ("F", "TIFF"), ("CMYK", "TIFF"), ("1", "TIFF"), ("P", "GIF"), ("LA", "PNG")],
)
def test_a_picture_of_any_depth_and_colours_is_drawn(mode: str, kind: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (80, 60)).save(out, kind)
    (shown,) = read_here(out.getvalue(), "a pump").pictures
    assert (shown.width, shown.height) == (80, 60)


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "PNG"])
def test_of_a_picture_that_moves_the_first_frame_is_kept_and_told(kind: str) -> None:
    out = io.BytesIO()
    first, *rest = (Image.new("RGB", (80, 60), colour) for colour in ("red", "blue", "green"))
    first.save(out, kind, save_all=True, append_images=rest)
    parsed = read_here(out.getvalue(), "a pump")
    assert "The picture moves: of its frames the first is kept." in parsed.notes
    with Image.open(io.BytesIO(parsed.pictures[0].content)) as image:
        red, green, blue = image.convert("RGB").split()
        assert min(red.tobytes()) > 200 > 50 > max(green.tobytes() + blue.tobytes())


def test_a_picture_that_was_taken_sideways_stands_upright() -> None:
    out, notes = io.BytesIO(), Image.Exif()
    notes[0x0112] = 6
    Image.new("RGB", (80, 60)).save(out, "JPEG", exif=notes)
    (shown,) = read_here(out.getvalue(), "a pump").pictures
    assert (shown.width, shown.height) == (60, 80)


@pytest.mark.parametrize(
    ("begin", "named"),
    [
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"\x01\x00\x00\x00" + bytes(36) + b" EMF", "metafile"),
        (b"\xd7\xcd\xc6\x9a\x00", "metafile"),
    ],
)
def test_a_picture_that_is_not_read_is_named(begin: bytes, named: str) -> None:
    with pytest.raises(UnreadableFile, match=named):
        read_here(begin + bytes(100), "a pump")
