"""The parser's process: one file in on stdin, its passages out on stdout, then the end.

stdin is one line of JSON and then the file's bytes. stdout is the line `READY`, from which on what happens is the
file's doing, and then JSON. Nothing touches a disk, and the file's name is not in the arguments, where other users of
the machine could read it.
"""

import codecs
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

from charset_normalizer.constant import IANA_SUPPORTED

from cloister_retriever.parsing.chunking import Chunk, Chunker, load_tokenizer
from cloister_retriever.parsing.detect import detect
from cloister_retriever.parsing.document import READY, Document, UnreadableFile
from cloister_retriever.parsing.pdf import parse_pdf
from cloister_retriever.parsing.sandbox import confine
from cloister_retriever.parsing.text import parse_text

__all__ = ["main"]

_STANDS_BACK = 10
"""Of 19: nobody waits for a file as for an answer, so the processors go to whoever else wants them."""

_MAX_PASSAGES = 100_000
"""More than 16 MiB of prose gives. A file of nothing but headings would give millions, and the index gigabytes."""


def main() -> None:
    """Parses the file on stdin."""
    os.nice(_STANDS_BACK)
    request = json.loads(sys.stdin.buffer.readline())
    chunker = Chunker(
        load_tokenizer(Path(request["tokenizer_path"])),
        max_tokens=request["max_tokens"],
        overlap_tokens=request["overlap_tokens"],
    )
    # Decoders are imported when first used, and after the filter nothing can be imported.
    for encoding in IANA_SUPPORTED:
        codecs.lookup(encoding)
    confined = confine(memory_bytes=request["memory_bytes"], cpu_seconds=request["cpu_seconds"])
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    answer = {"confined": confined, **_parse(chunker, request["name"], request["max_text_bytes"])}
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode())
    sys.stdout.buffer.flush()


def _parse(chunker: Chunker, name: str, max_text_bytes: int) -> dict[str, Any]:
    try:
        content = sys.stdin.buffer.read()
        document = _document(content, name, max_text_bytes)
        chunks = _passages(chunker, document)
    except UnreadableFile as error:
        return {"error": {"code": error.code, "message": error.message}}
    except MemoryError:
        return {"error": {"code": "invalid_file", "message": "The file needs more memory to be read than is allowed."}}
    if not chunks:
        return {"error": {"code": "invalid_file", "message": "The file has no text."}}
    return {"text": document.text, "chunks": [list(chunk) for chunk in chunks]}


def _document(content: bytes, name: str, max_text_bytes: int) -> Document:
    too_long = UnreadableFile("invalid_file", f"The file has more than {max_text_bytes} bytes of text. Split it.")
    if detect(content, name) == "pdf":
        document = parse_pdf(content, max_characters=max_text_bytes)
    elif len(content) > 4 * max_text_bytes:  # UTF-32 is the widest encoding
        raise too_long
    else:
        document = parse_text(content, name)
    if len(document.text.encode()) > max_text_bytes:
        raise too_long
    return document


def _passages(chunker: Chunker, document: Document) -> list[Chunk]:
    chunks = list(itertools.islice(chunker.chunk(document), _MAX_PASSAGES + 1))
    if len(chunks) > _MAX_PASSAGES:
        raise UnreadableFile("invalid_file", f"The file has more than {_MAX_PASSAGES} passages. Split it.")
    return chunks


if __name__ == "__main__":
    main()
