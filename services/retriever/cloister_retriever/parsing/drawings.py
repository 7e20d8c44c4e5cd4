"""Charts and SmartArt in Office's documents: parts of their own that a drawing leads to, with words and numbers."""

from collections.abc import Mapping

from cloister_retriever.parsing.markup import Element, children, local, parse_xml
from cloister_retriever.parsing.number_formats import GENERAL, shown
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.packages import Package
from cloister_retriever.parsing.rows import write_records

__all__ = ["write_drawings"]

_MOST_POINTS = 10_000
_MOST_SERIES = 200


def write_drawings(writer: Writer, block: Element, package: Package, leads: Mapping[str, str]) -> None:
    """The charts and diagrams that a block has, as a table and as lines.

    Args:
        writer: Writes them.
        block: A paragraph, or a frame on a slide.
        package: The file.
        leads: Where the ids in the block lead to.
    """
    for shown_ in block.iter():
        name = local(shown_)
        if name not in {"chart", "relIds"}:
            continue
        wanted = "}id" if name == "chart" else "}dm"
        part = leads.get(next((value for key, value in shown_.attrib.items() if key.endswith(wanted)), ""), "")
        if part not in package:
            continue
        root = parse_xml(package.read(part))
        if name == "chart":
            _write_chart(writer, root)
        else:
            _write_diagram(writer, root)


def _write_diagram(writer: Writer, root: Element) -> None:
    writer.apart()
    for point in (one for one in root.iter() if local(one) == "pt"):
        for paragraph in (one for one in point.iter() if local(one) == "p"):
            text = _words(paragraph)
            writer.line(f"- {text}" if text.strip() else "")
    writer.apart()


def _write_chart(writer: Writer, root: Element) -> None:
    """Its title, and the values of its series as they were last drawn."""
    title = next((one for one in root.iter() if local(one) == "title"), None)
    series = [one for one in root.iter() if local(one) == "ser"][:_MOST_SERIES]
    if title is not None:
        writer.paragraph(" ".join(_words(one) for one in title.iter() if local(one) == "p"))
    head: dict[int, str] = {0: "Category"}
    rows: dict[int, dict[int, str]] = {}
    for column, one in enumerate(series, 1):
        named = list(_points(one, "tx").values())
        head[column] = named[0] if named else f"Series {column}"
        for at, text in {**_points(one, "cat"), **_points(one, "xVal")}.items():
            rows.setdefault(at, {}).setdefault(0, text)
        for at, text in {**_points(one, "val"), **_points(one, "yVal")}.items():
            rows.setdefault(at, {})[column] = text
    if rows:
        writer.apart()
        write_records(writer, [head, *(rows[at] for at in sorted(rows))])
        writer.apart()


def _points(series: Element, name: str) -> dict[int, str]:
    """What a series says of its points by their numbers: its name, categories or values."""
    found: dict[int, str] = {}
    for child in (one for one in children(series) if local(one) == name):
        code = next((one.text or GENERAL for one in child.iter() if local(one) == "formatCode"), GENERAL)
        for point in (one for one in child.iter() if local(one) == "pt"):
            at = point.get("idx", "")
            text = next((one.text or "" for one in point.iter() if local(one) == "v"), "")
            if at.isdecimal() and len(at) < 8 and len(found) < _MOST_POINTS:
                found[int(at)] = _number(text, point.get("formatCode") or code)
    return found


def _number(text: str, code: str) -> str:
    try:
        return shown(float(text), code)
    except ValueError:
        return text


def _words(paragraph: Element) -> str:
    return "".join(one.text or "" for one in paragraph.iter() if local(one) == "t")
