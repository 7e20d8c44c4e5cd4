"""PowerPoint: each slide is a page, its title a heading, with its tables and the speaker's notes."""

import posixpath
import re
from collections.abc import Iterator

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.markup import Element, children, local, parse_xml
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.rows import write_rows

__all__ = ["PPTX"]

_MAX_SLIDES = 5_000
_TITLES = frozenset({"title", "ctrTitle"})
_NO_TEXT = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})
"""Placeholders that say the same on every slide."""

_SLIDE = re.compile(r"ppt/slides/slide(\d{1,6})\.xml")


def _parse(source: Source) -> Document:
    package = Package(source.content)
    writer = Writer(source.max_text_bytes)
    for number, slide in enumerate(_slides(package), 1):
        if number > _MAX_SLIDES:
            raise UnreadableFile("invalid_file", f"The presentation has more than {_MAX_SLIDES} slides. Split it.")
        writer.page(number)
        shapes = list(_shapes(parse_xml(package.read(slide))))
        for title in (shape for shape in shapes if _placeholder(shape) in _TITLES):
            writer.heading(1, " ".join(_paragraphs(title)))
        for shape in shapes:
            _write(writer, shape)
        for notes in (target for target in _related(package, slide) if "/notesSlides/" in target):
            said = [
                text
                for shape in _shapes(parse_xml(package.read(notes)))
                if _placeholder(shape) not in _NO_TEXT
                for text in _paragraphs(shape)
            ]
            if said:
                writer.paragraph("Notes: " + "\n".join(said))
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The presentation has no text.")
    return writer.document()


def _slides(package: Package) -> list[str]:
    """The parts of the slides in the order in which they are shown."""
    named = sorted(
        (name for name in package if _SLIDE.fullmatch(name)),
        key=lambda name: int(_SLIDE.fullmatch(name)[1]),  # type: ignore[index] # it matched
    )
    if "ppt/presentation.xml" not in package:
        return named
    targets = _relations(package, "ppt/presentation.xml")
    order = [
        targets.get(next((value for key, value in slide.attrib.items() if key.endswith("}id")), ""), "")
        for slide in parse_xml(package.read("ppt/presentation.xml")).iter()
        if local(slide) == "sldId"
    ]
    shown = [name for name in order if name in package]
    return shown or named


def _relations(package: Package, part: str) -> dict[str, str]:
    """Where the ids in a part lead to, within the file; what leads out of it is left where it is."""
    folder, _, name = part.rpartition("/")
    path = f"{folder}/_rels/{name}.rels"
    if path not in package:
        return {}
    return {
        relation.get("Id", ""): posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
        for relation in children(parse_xml(package.read(path)))
        if relation.get("TargetMode") != "External"
    }


def _related(package: Package, part: str) -> list[str]:
    return [target for target in _relations(package, part).values() if target in package]


def _shapes(element: Element) -> Iterator[Element]:
    """What has text on a slide: shapes and frames, out of their groups."""
    for child in children(element):
        name = local(child)
        if name in {"sp", "graphicFrame"}:
            yield child
        elif name not in {"Fallback", "extLst"}:
            yield from _shapes(child)


def _placeholder(shape: Element) -> str | None:
    found = next((one for one in shape.iter() if local(one) == "ph"), None)
    return None if found is None else found.get("type", "body")


def _write(writer: Writer, shape: Element) -> None:
    place = _placeholder(shape)
    if place in _NO_TEXT or place in _TITLES:
        return
    table = next((one for one in shape.iter() if local(one) == "tbl"), None)
    if table is not None:
        rows = (row for row in children(table) if local(row) == "tr")
        write_rows(
            writer, ([" ".join(_paragraphs(cell)) for cell in children(row) if local(cell) == "tc"] for row in rows)
        )
        return
    writer.apart()
    for text in _paragraphs(shape):
        writer.line(text)


def _paragraphs(element: Element) -> list[str]:
    found = []
    for paragraph in element.iter():
        if local(paragraph) == "p":
            parts = (
                "\n" if local(run) == "br" else run.text or "" for run in paragraph.iter() if local(run) in {"t", "br"}
            )
            text = "".join(parts).strip()
            if text:
                found.append(text)
    return found


PPTX = Kind("pptx", called=("PPTX",), parse=_parse, claims=lambda look: look.package == "pptx")
