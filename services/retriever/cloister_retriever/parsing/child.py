"""The parser's process: one file in on stdin, its passages out on stdout, then the end.

stdin is one line of JSON and then the file's bytes. stdout is the line `READY`, from which on what happens is the
file's doing, and then JSON. Nothing touches a disk, and the file's name is not in the arguments, where other users of
the machine could read it.
"""

import codecs
import itertools
import os
import sys

from charset_normalizer.constant import IANA_SUPPORTED

from cloister_retriever.parsing.chunking import Chunk, Chunker, load_tokenizer
from cloister_retriever.parsing.detect import detect
from cloister_retriever.parsing.document import Document, UnreadableFile, too_long
from cloister_retriever.parsing.kinds.kind import Source
from cloister_retriever.parsing.kinds.table import SUPPORTED
from cloister_retriever.parsing.messages import READY, Answer, Refusal, Request
from cloister_retriever.parsing.sandbox import confine

__all__ = ["main"]

_STANDS_BACK = 10
"""Of 19: nobody waits for a file as for an answer, so the processors go to whoever else wants them."""

_MAX_PASSAGES = 100_000
"""More than 16 MiB of prose gives. A file of nothing but headings would give millions, and the index gigabytes."""


def main() -> None:
    """Parses the file on stdin."""
    os.nice(_STANDS_BACK)
    request = Request.model_validate_json(sys.stdin.buffer.readline())
    chunker = Chunker(
        load_tokenizer(request.tokenizer_path), max_tokens=request.max_tokens, overlap_tokens=request.overlap_tokens
    )
    # Decoders are imported when first used, and after the filter nothing can be imported.
    for encoding in IANA_SUPPORTED:
        codecs.lookup(encoding)
    confined = confine(memory_bytes=request.memory_bytes, cpu_seconds=request.cpu_seconds)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    answer = _answer(chunker, request, confined=confined)
    sys.stdout.buffer.write(answer.model_dump_json(exclude_defaults=True).encode())
    sys.stdout.buffer.flush()


def _answer(chunker: Chunker, request: Request, *, confined: bool) -> Answer:
    try:
        document = _document(Source(sys.stdin.buffer.read(), request.name, request.max_text_bytes))
        chunks = _passages(chunker, document)
    except UnreadableFile as error:
        read = f" Supported: {SUPPORTED}." if error.code == "unsupported_file" else ""
        return Answer(confined=confined, error=Refusal(code=error.code, message=error.message + read))
    except MemoryError:
        message = "The file needs more memory to be read than is allowed."
        return Answer(confined=confined, error=Refusal(code="invalid_file", message=message))
    if not chunks:
        return Answer(confined=confined, error=Refusal(code="invalid_file", message="The file has no text."))
    return Answer(confined=confined, text=document.text, chunks=chunks)


def _document(source: Source) -> Document:
    document = detect(source.content, source.name).parse(source)
    if len(document.text.encode()) > source.max_text_bytes:
        raise too_long(source.max_text_bytes)
    return document


def _passages(chunker: Chunker, document: Document) -> list[Chunk]:
    chunks = list(itertools.islice(chunker.chunk(document), _MAX_PASSAGES + 1))
    if len(chunks) > _MAX_PASSAGES:
        raise UnreadableFile("invalid_file", f"The file has more than {_MAX_PASSAGES} passages. Split it.")
    return chunks


if __name__ == "__main__":
    main()
