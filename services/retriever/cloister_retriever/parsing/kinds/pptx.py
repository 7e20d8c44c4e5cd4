"""PowerPoint: each slide is a page, its title a heading, with its tables, charts, pictures, comments and the speaker's
notes."""

import re
from collections.abc import Iterator

from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.drawings import write_drawings
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.markup import Element, children, local, parse_xml
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.relations import main_part, picture_id, related, relations
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
    slides = _slides(package)
    if len(slides) > _MAX_SLIDES:
        raise UnreadableFile("invalid_file", f"The presentation has more than {_MAX_SLIDES} slides. Split it.")
    hidden: list[str] = []
    for number, slide in enumerate(source.counted(slides), 1):
        writer.page(number)
        root = parse_xml(package.read(slide))
        if root.get("show") in {"0", "false"}:
            hidden.append(str(number))
        shapes = list(_shapes(root))
        leads = relations(package, slide)
        for title in (shape for shape in shapes if _placeholder(shape) in _TITLES):
            writer.heading(1, " ".join(_paragraphs(title)))
        for shape in shapes:
            if local(shape) != "pic":
                _write(writer, shape)
                write_drawings(writer, shape, package, leads)
            _pictures(writer, shape, package, leads, source)
        _write_said(writer, package, slide)
    if hidden:
        what = f"Slide {hidden[0]} is" if len(hidden) == 1 else f"{len(hidden)} slides, {hidden[0]} the first, are"
        writer.note(f"{what} hidden when the presentation is shown, and read all the same.")
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The presentation has no text.")
    return writer.document()


def _write_said(writer: Writer, package: Package, slide: str) -> None:
    """The speaker's notes of a slide, and comments on it."""
    about = [one for one in related(package, slide) if one.target in package]
    for notes in (one.target for one in about if "/notesSlides/" in one.target):
        said = [
            text
            for shape in _shapes(parse_xml(package.read(notes)))
            if _placeholder(shape) not in _NO_TEXT
            for text in _paragraphs(shape)
        ]
        if said:
            writer.paragraph("Notes: " + "\n".join(said))
    for comments in (one.target for one in about if one.kind == "comments"):
        for comment in parse_xml(package.read(comments)).iter():
            if local(comment) == "cm" and (text := _comment(comment)):
                writer.paragraph(f"Comment: {text}")


def _slides(package: Package) -> list[str]:
    """The parts of the slides in the order in which they are shown."""
    named = sorted(
        (name for name in package if _SLIDE.fullmatch(name)),
        key=lambda name: int(_SLIDE.fullmatch(name)[1]),  # type: ignore[index] # it matched
    )
    part = main_part(package, "ppt/presentation.xml")
    if part not in package:
        return named
    targets = relations(package, part)
    order = [
        targets.get(next((value for key, value in slide.attrib.items() if key.endswith("}id")), ""), "")
        for slide in parse_xml(package.read(part)).iter()
        if local(slide) == "sldId"
    ]
    shown = [name for name in order if name in package]
    return shown or named


def _comment(comment: Element) -> str:
    """What a comment says, and what was answered: as older programs keep it, and as newer ones do."""
    said = (one.text or "" for one in comment.iter() if local(one) in {"text", "t"})
    return " ".join(" ".join(said).split())


def _shapes(element: Element) -> Iterator[Element]:
    """What is seen on a slide: shapes, frames and pictures, out of their groups."""
    for child in children(element):
        name = local(child)
        if name in {"sp", "graphicFrame", "pic"}:
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


def _pictures(writer: Writer, shape: Element, package: Package, leads: dict[str, str], source: Source) -> None:
    """The picture that a shape is, or is filled with, and what stands for an object. Bullets are none."""
    named = next((one for one in shape.iter() if local(one) == "cNvPr"), None)
    text = "" if named is None else named.get("descr") or named.get("title") or ""
    blips = (one for one in shape.iter() if local(one) == "blip" and local(one.getparent()) != "buBlip")
    for part in dict.fromkeys(leads.get(picture_id(blip) or "", "") for blip in blips):
        if part in package:
            writer.picture(source.album.take(package.read(part)), text)


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
