"""The parser's process: one file in on its connection, its passages out, then the end.

It is forked from a warm one (`cloister_retriever.parsing.host`) with the request. What it says is the line `READY`,
from which on what happens is the file's doing, and then JSON. Nothing touches a disk.
"""

import codecs
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from cloister_retriever.parsing.chunking import Chunk, Chunker, ModelLimits, load_tokenizer
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.encodings import CODECS
from cloister_retriever.parsing.kinds.table import SUPPORTED
from cloister_retriever.parsing.messages import MOST_MESSAGE, READY, Answer, Refusal, Request
from cloister_retriever.parsing.reader import Reader
from cloister_retriever.parsing.samples import samples
from cloister_retriever.parsing.sandbox import confine

__all__ = ["read_one", "warm_up"]

_SAMPLE_BYTES = 64 * 1024
_MAX_NOTES = 20
_MAX_PASSAGES = 100_000
"""More than 16 MiB of prose gives. A file of nothing but headings would give millions, and the index gigabytes."""


def warm_up() -> None:
    """Loads what is loaded when it is first used: behind the filter nothing can be opened."""
    for encoding in CODECS:
        codecs.lookup(encoding)
    reader = Reader(_SAMPLE_BYTES)
    for name, content in samples():
        reader.read(content, name)


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
    reader = Reader(request.max_text_bytes, languages=request.languages, is_word=chunker.is_word)
    # Opened before the filter: afterwards a file that is open cannot even be asked what it is.
    with open(0, "rb", closefd=False) as source, open(1, "wb", closefd=False) as sink:
        confined = confine(memory_bytes=request.memory_bytes, cpu_seconds=request.cpu_seconds)
        sink.write(READY)
        sink.flush()
        answer = _answer(chunker, reader, source.read, request.name, confined=confined)
        sink.write(answer.model_dump_json(exclude_defaults=True).encode())


def _answer(chunker: Chunker, reader: Reader, content: Callable[[], bytes], name: str, *, confined: bool) -> Answer:
    try:
        document = reader.read(content(), name)
        chunks = _passages(chunker, document)
    except UnreadableFile as error:
        read = f" Supported: {SUPPORTED}." if error.code == "unsupported_file" else ""
        message = (error.message + read)[:MOST_MESSAGE]
        return Answer(confined=confined, error=Refusal(code=error.code, message=message))
    except MemoryError:
        message = "The file needs more memory to be read than is allowed."
        return Answer(confined=confined, error=Refusal(code="invalid_file", message=message))
    except RecursionError:
        message = "The file is nested deeper than is allowed."
        return Answer(confined=confined, error=Refusal(code="invalid_file", message=message))
    if not chunks:
        return Answer(confined=confined, error=Refusal(code="invalid_file", message="The file has no text."))
    return Answer(confined=confined, text=document.text, chunks=chunks, notes=_notes(document))


def _notes(document: Document) -> list[str]:
    """The first notes, and how many more there are: an archive may have a thousand."""
    notes = [note[:MOST_MESSAGE] for note in document.notes[:_MAX_NOTES]]
    more = len(document.notes) - len(notes)
    return [*notes, f"There are {more} more such notes."] if more else notes


def _passages(chunker: Chunker, document: Document) -> list[Chunk]:
    chunks = list(itertools.islice(chunker.chunk(document), _MAX_PASSAGES + 1))
    if len(chunks) > _MAX_PASSAGES:
        raise UnreadableFile("invalid_file", f"The file has more than {_MAX_PASSAGES} passages. Split it.")
    return chunks
