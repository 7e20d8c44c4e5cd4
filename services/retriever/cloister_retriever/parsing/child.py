"""The parser's process: one file in on its connection, its passages or its picture out, then the end.

It is forked from a warm one (`cloister_retriever.parsing.host`) with the request. What it says is the line `READY`,
from which on what happens is the file's doing, and then JSON. Nothing touches a disk.
"""

import codecs
import contextlib
import encodings.aliases
import functools
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

from tokenizers import Tokenizer

from cloister_retriever.parsing.album import Album, PictureLimits
from cloister_retriever.parsing.chunking import Chunk, Chunker, ModelLimits, load_tokenizer
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.encodings import CODECS
from cloister_retriever.parsing.illustrations import Illustration, illustrations
from cloister_retriever.parsing.kinds.table import SUPPORTED
from cloister_retriever.parsing.messages import MOST_MESSAGE, READY, Answer, ReadPicture, Refusal, Request
from cloister_retriever.parsing.model_image import model_image, warm_up_images
from cloister_retriever.parsing.ocr import Eyes, memory_of_eyes, warm_up_eyes
from cloister_retriever.parsing.reader import Reader
from cloister_retriever.parsing.samples import samples
from cloister_retriever.parsing.sandbox import confine

__all__ = ["answer_of", "read_one", "warm_up"]

_SAMPLE_BYTES = 64 * 1024
_SAMPLE_PICTURES = PictureLimits(most=100, pixels=10_000, total_bytes=1024 * 1024, seconds=60.0)
_MAX_NOTES = 20
_PAGES_SECONDS = 0.3
_MAX_PASSAGES = 100_000
"""More than 16 MiB of prose gives. A file of nothing but headings would give millions, and the index gigabytes."""


def warm_up() -> None:
    """Loads what is loaded when it is first used: behind the filter nothing can be opened."""
    for encoding in {*CODECS, *encodings.aliases.aliases.values()}:
        with contextlib.suppress(LookupError):  # Windows' own, which are nowhere else
            codecs.lookup(encoding)
    album = Album(_SAMPLE_PICTURES)
    reader = Reader(_SAMPLE_BYTES, album=album)
    for name, content in samples():
        reader.read(content, name)
    album.drawn()
    warm_up_images()
    warm_up_eyes()


@functools.cache
def _tokenizer_of(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@functools.lru_cache(maxsize=8)
def chunker_of(folder: Path, max_tokens: int, overlap_tokens: int, prompt_tokens: int) -> Chunker:
    """What cuts passages of this length: made before a process is forked, so that it is there."""
    tokenizer = _tokenizer_of(folder)
    limits = ModelLimits.of(folder, tokenizer, prompt_tokens=prompt_tokens)
    return Chunker(tokenizer, max_tokens=max_tokens, overlap_tokens=overlap_tokens, model_tokens=limits.tokens)


def read_one(request: Request, chunker: Chunker) -> None:
    """Confines this process for good, and reads the file on standard input."""
    # Opened before the filter: afterwards a file that is open cannot even be asked what it is.
    with open(0, "rb", closefd=False) as source, open(1, "wb", closefd=False) as sink:
        memory = request.memory_bytes + memory_of_eyes(reading=request.ocr_seconds > 0)
        confined = confine(memory_bytes=memory, cpu_seconds=request.cpu_seconds)
        sink.write(READY)
        sink.flush()
        answer = answer_of(request, chunker, source.read, on_page=_Pages(sink).tell)
        sink.write(answer.model_copy(update={"confined": confined}).model_dump_json(exclude_defaults=True).encode())


class _Pages:
    """Says how many pages have been read: the first and the last, and a few a second between."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._told = 0.0

    def tell(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._told > _PAGES_SECONDS:
            self._told = now
            self._sink.write(b"page %d %d\n" % (done, total))
            self._sink.flush()


def answer_of(
    request: Request,
    chunker: Chunker,
    content: Callable[[], bytes],
    *,
    on_page: Callable[[int, int], None] = lambda done, total: None,
) -> Answer:
    """What is said of a file, or of an image that a model is to be given; or why nothing can be."""
    try:
        if request.image_edge is not None:
            return Answer(image=model_image(content(), request.image_edge))
        return _text(request, chunker, content, on_page)
    except UnreadableFile as error:
        return _refusal(error.code, error.message)
    except MemoryError:
        return _refusal("invalid_file", "The file needs more memory to be read than is allowed.")
    except RecursionError:
        return _refusal("invalid_file", "The file is nested deeper than is allowed.")


def _text(
    request: Request, chunker: Chunker, content: Callable[[], bytes], on_page: Callable[[int, int], None]
) -> Answer:
    album = Album(request.pictures)
    reader = Reader(
        request.max_text_bytes,
        languages=request.languages,
        is_word=chunker.is_word,
        on_page=on_page,
        album=album,
        eyes=Eyes(request.ocr_seconds),
    )
    try:
        document = reader.read(content(), request.name, description=request.description)
    except UnreadableFile as error:
        read = f" Supported: {SUPPORTED}." if error.code == "unsupported_file" else ""
        return _refusal(error.code, error.message + read)
    chunks = _passages(chunker, document)
    pictures = illustrations(document, album, chunker)
    _check_something(document, chunks, pictures, request)
    return Answer(
        text=document.text,
        chunks=_with_pictures(chunks, [picture.words for picture in pictures if picture.words is not None]),
        pictures=[_read(picture) for picture in pictures],
        is_picture=document.is_picture,
        notes=_notes([*document.notes, *album.notes()]),
    )


def _refusal(code: Literal["unsupported_file", "invalid_file"], message: str) -> Answer:
    return Answer(error=Refusal(code=code, message=message[:MOST_MESSAGE]))


def _with_pictures(chunks: list[Chunk], words: list[Chunk]) -> list[Chunk]:
    """The passages of a file and behind them those that stand for pictures. What one of these says whole is not said
    again."""
    ranges = [(one.start, one.end) for one in words]
    own = [one for one in chunks if not any(start <= one.start and one.end <= end for start, end in ranges)]
    return [*own, *words]


def _check_something(document: Document, chunks: list[Chunk], pictures: list[Illustration], request: Request) -> None:
    """Raises `UnreadableFile` where nothing of the file could ever be found."""
    if chunks or (pictures and (request.by_sight or document.is_picture)):
        return
    only = ", only pictures, and no model for these is set up" if pictures else ""
    raise UnreadableFile("invalid_file", " ".join([f"The file has no text{only}.", *document.notes]))


def _read(picture: Illustration) -> ReadPicture:
    drawn = picture.drawn
    return ReadPicture.model_construct(
        media_type=drawn.media_type,
        width=drawn.width,
        height=drawn.height,
        page=picture.page,
        by=picture.by,
        content=drawn.content,
        small=drawn.small,
    )


def _notes(every: list[str]) -> list[str]:
    """The first notes, and how many more there are: an archive may have a thousand."""
    notes = [note[:MOST_MESSAGE] for note in every[:_MAX_NOTES]]
    more = len(every) - len(notes)
    return [*notes, f"There are {more} more such notes."] if more else notes


def _passages(chunker: Chunker, document: Document) -> list[Chunk]:
    chunks = list(itertools.islice(chunker.chunk(document), _MAX_PASSAGES + 1))
    if len(chunks) > _MAX_PASSAGES:
        raise UnreadableFile("invalid_file", f"The file has more than {_MAX_PASSAGES} passages. Split it.")
    return chunks
