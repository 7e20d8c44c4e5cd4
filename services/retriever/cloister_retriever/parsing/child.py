"""The parser's process: one file in on stdin, its passages out on stdout, then the end.

stdin is one line of JSON and then the file's bytes. stdout is the line `READY`, from which on what happens is the
file's doing, and then JSON. Nothing touches a disk, and the file's name is not in the arguments, where other users of
the machine could read it.
"""

import codecs
import itertools
import os
import sys

from cloister_retriever.parsing.chunking import Chunk, Chunker, ModelLimits, load_tokenizer
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.encodings import CODECS
from cloister_retriever.parsing.kinds.table import SUPPORTED
from cloister_retriever.parsing.messages import MOST_MESSAGE, READY, Answer, Refusal, Request
from cloister_retriever.parsing.reader import Reader
from cloister_retriever.parsing.samples import samples
from cloister_retriever.parsing.sandbox import confine

__all__ = ["main"]

_STANDS_BACK = 10
"""Of 19: nobody waits for a file as for an answer, so the processors go to whoever else wants them."""

_MAX_NOTES = 20
_MAX_PASSAGES = 100_000
"""More than 16 MiB of prose gives. A file of nothing but headings would give millions, and the index gigabytes."""


def main() -> None:
    """Parses the file on stdin."""
    os.nice(_STANDS_BACK)
    request = Request.model_validate_json(sys.stdin.buffer.readline())
    tokenizer = load_tokenizer(request.tokenizer_path)
    chunker = Chunker(
        tokenizer,
        max_tokens=request.max_tokens,
        overlap_tokens=request.overlap_tokens,
        model_tokens=ModelLimits.of(request.tokenizer_path, tokenizer).tokens,
    )
    reader = Reader(request.max_text_bytes, languages=request.languages, is_word=chunker.is_word)
    _warm_up(reader)
    confined = confine(memory_bytes=request.memory_bytes, cpu_seconds=request.cpu_seconds)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    answer = _answer(chunker, reader, request.name, confined=confined)
    sys.stdout.buffer.write(answer.model_dump_json(exclude_defaults=True).encode())
    sys.stdout.buffer.flush()


def _warm_up(reader: Reader) -> None:
    """Loads what is loaded when it is first used: after the filter nothing can be opened."""
    for encoding in CODECS:
        codecs.lookup(encoding)
    for name, content in samples():
        reader.read(content, name)


def _answer(chunker: Chunker, reader: Reader, name: str, *, confined: bool) -> Answer:
    try:
        document = reader.read(sys.stdin.buffer.read(), name)
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


if __name__ == "__main__":
    main()
