"""Scans in the confined process: read by PP-OCR where ``requirements/ocr.txt`` is installed, and told as unread where
it is not. Both are right, so that both are looked at: what ran is in the output.

The suite's own environment goes without it (410 MB); ``make ocr`` puts it there.
"""

import importlib.util
import io
from collections.abc import AsyncIterator

import pytest
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.parser import Parser
from cloister_retriever.parsing.warm import ParserHost
from cloister_retriever.settings import IngestionSettings
from PIL import Image, ImageDraw

from tests.support.illustrated import scan
from tests.support.models import minilm_folder

IS_INSTALLED = importlib.util.find_spec("rapidocr") is not None
WORDS = "The harbour charges 12.50 EUR"


def page() -> bytes:
    image = Image.new("RGB", (900, 1270), "white")
    ImageDraw.Draw(image).text((80, 120), WORDS, fill="black", font_size=34)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


async def became(name: str) -> str:
    """The text and the notes of a page as a file of this name, or the sentence that says why not."""
    content = scan(page()) if name.endswith("pdf") else page()

    async def chunks() -> AsyncIterator[bytes]:
        yield content

    host = ParserHost()
    parser = Parser(IngestionSettings(tokenizer_path=minilm_folder()), host)
    try:
        parsed = await parser.parse(chunks(), name=name, max_tokens=200, overlap_tokens=40)
        return " ".join([parsed.text, *parsed.notes])
    except UnreadableFile as error:
        return error.message
    finally:
        host.close()


@pytest.mark.parametrize(
    ("name", "unread"), [("scan.pdf", "text in images is not read here"), ("IMG_1.png", "no description")]
)
async def test_a_scan_is_read_or_says_that_it_was_not(name: str, unread: str) -> None:
    print("text in pictures is read by PP-OCR" if IS_INSTALLED else "PP-OCR is not installed: what is unread is told")
    told = await became(name)
    for words in (WORDS, "may have errors") if IS_INSTALLED else (unread,):
        assert words in told
