"""Text in scans and pictures: where it comes into a file, what it may cost, and what is told. The models are not here:
what reads is a stand-in, and `tests/integration/retriever/test_scans.py` has the real one where that is installed."""

from typing import Any

import pytest
from cloister_retriever.parsing import ocr
from cloister_retriever.parsing.album import Album, PictureLimits
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.ocr import Eyes
from cloister_retriever.parsing.reader import Reader
from PIL import Image

from tests.support.illustrated import picture, scan
from tests.support.office import zipped

LIMITS = PictureLimits(most=9, pixels=10**7, total_bytes=10**7, seconds=60.0)


class Found:
    def __init__(self, *texts: str) -> None:
        self.txts = texts or None


class Engine:
    """Sees these lines in each picture, one after the other."""

    def __init__(self, *found: Found | Exception) -> None:
        self._found = list(found)
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, pixels: Any) -> Found:
        self.sizes.append(pixels.shape)
        found = self._found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def with_engine(monkeypatch: pytest.MonkeyPatch, *found: Found | Exception) -> Engine:
    engine = Engine(*found)
    monkeypatch.setattr(ocr, "_engine", lambda: engine)
    return engine


def read(content: bytes, name: str, seconds: float = 60.0) -> Document:
    return Reader(100_000, album=Album(LIMITS), eyes=Eyes(seconds)).read(content, name)


def test_pages_of_a_scan_are_read_and_said_to_be_from_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = with_engine(monkeypatch, Found("The harbour", "charges 12 EUR"), Found(), Found("per metre"))
    document = read(scan(picture("red"), pages=3), "scan.pdf")
    pages = {part.page: document.text[part.start : part.end].strip() for part in document.segments}
    assert (pages[1], pages[3]) == ("The harbour\ncharges 12 EUR", "per metre")
    assert document.notes == [
        "Pages 1 and 3 are scanned: their text was read from the picture, and may have errors.",
        "Page 2 has no text: it is empty, or scanned, and no text was found in the scan.",
    ]
    assert {max(size[:2]) for size in engine.sizes} == {ocr.MOST_EDGE}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF"])
def test_a_picture_of_text_has_its_words(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with_engine(monkeypatch, Found("Invoice 4711"))
    document = read(picture("red", kind), f"IMG_1.{kind.lower()}")
    assert document.text.strip() == "Invoice 4711"
    assert document.notes == ["Text was read from the picture, and may have errors."]
    assert len(document.pictures) == 1


def test_what_there_is_no_time_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with_engine(monkeypatch, Found("one"), Found("two"))
    clock = iter([0.0, 7.0])
    monkeypatch.setattr("cloister_retriever.parsing.ocr.time.process_time", lambda: next(clock))
    eyes = Eyes(5.0)
    image = Image.new("RGB", (40, 40))
    assert [eyes.read(image), eyes.read(image), eyes.skipped] == ["one", "", 1]


def test_a_picture_that_makes_it_fail_is_a_page_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with_engine(monkeypatch, RuntimeError("std::bad_alloc"))
    (note,) = read(scan(picture("red")), "scan.pdf").notes
    assert note.startswith("Page 1 has no text")


def test_without_it_pages_are_told_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "_engine", lambda: None)
    with pytest.raises(UnreadableFile, match="text in images is not read here"):
        Reader(100_000, eyes=Eyes(60.0)).read(scan(picture("red")), "scan.pdf")
    with_engine(monkeypatch, Found("never asked"))
    assert Eyes(0.0).read(Image.new("RGB", (40, 40))) == ""


def test_scans_in_an_archive_share_the_time_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with_engine(monkeypatch, Found("one"), Found("two"))
    archive = zipped({"a.pdf": scan(picture("red")), "b.pdf": scan(picture("blue"))})
    clock = iter([0.0, 70.0])
    monkeypatch.setattr("cloister_retriever.parsing.ocr.time.process_time", lambda: next(clock))
    document = Reader(100_000, eyes=Eyes(60.0)).read(archive, "a.zip")
    assert "one" in document.text
    assert any("no time to read more scans" in note for note in document.notes)


def test_what_the_models_take_of_memory_is_beyond_what_a_file_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "_grown", 0)
    assert ocr.memory_of_eyes(reading=True) == 0
    monkeypatch.setattr(ocr, "_grown", 300)
    assert ocr.memory_of_eyes(reading=False) == 300 < ocr.memory_of_eyes(reading=True)
