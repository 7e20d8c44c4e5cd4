"""Notebooks of Jupyter (nbformat 4): their words, their code, what it printed and drew; not the letters of pictures.

Other JSON may have the words that tell a notebook, and a text may quote them: those are read as text.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.kinds.text import TEXT
from cloister_retriever.parsing.outline import Writer

__all__ = ["NOTEBOOK"]

_PICTURES = ("image/png", "image/jpeg")


def _parse(source: Source) -> Document:
    try:
        notebook = json.loads(decode(source.content).text)
    except (ValueError, RecursionError) as error:
        if source.name.lower().endswith(".ipynb"):
            raise UnreadableFile("invalid_file", "The notebook is damaged: it is no JSON.") from error
        return TEXT.parse(source)
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list) or "nbformat" not in notebook:
        return TEXT.parse(source)
    cells = _items(notebook, "cells")
    writer = Writer(source.max_text_bytes)
    for cell in source.counted(cells):
        said = _text(cell.get("source"))
        if cell.get("cell_type") == "markdown" and said.strip() and source.read is not None:
            writer.add(source.read(said.encode("utf-8", "replace"), "cell.md"), level=0)
        else:
            writer.paragraph(said)
        for output in _items(cell, "outputs"):
            _write_output(writer, source, output)
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The notebook has no text.")
    return writer.document()


def _write_output(writer: Writer, source: Source, output: dict[str, Any]) -> None:
    data = output.get("data")
    shown = data if isinstance(data, dict) else {}
    for kind in _PICTURES:
        if kind in shown:
            try:
                content = base64.b64decode(_text(shown[kind]))
            except ValueError:
                continue
            writer.picture(source.album.take(content))
            return
    writer.paragraph(_text(output.get("text")) or _text(shown.get("text/plain")))


def _items(holder: object, name: str) -> list[dict[str, Any]]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(value: object) -> str:
    """A text, which may be kept line by line."""
    return "".join(_lines(value))


def _lines(value: object) -> Iterator[str]:
    for line in value if isinstance(value, list) else [value]:
        if isinstance(line, str):
            yield line


def _claims(look: Look) -> bool:
    return look.head.lstrip().startswith(b"{") and b'"cells"' in look.content and b'"nbformat"' in look.content


NOTEBOOK = Kind("notebook", called=("IPYNB",), parse=_parse, claims=_claims)
