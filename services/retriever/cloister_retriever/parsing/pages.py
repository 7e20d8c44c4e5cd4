"""The text of a page of HTML: what a reader sees of its main part, with headings, lists, tables and pictures; never its
code."""

import base64
import binascii
from collections.abc import Callable

from cloister_retriever.parsing.markup import Element, children, local, parse_html
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.rows import write_rows

__all__ = ["embedded", "write_page"]

_UNSEEN = frozenset(
    {
        *("script", "style", "template", "noscript", "head", "title", "meta", "link", "iframe", "object", "embed"),
        *("svg", "math", "canvas", "audio", "video", "map", "datalist", "select", "button", "nav", "dialog"),
    }
)
_FRAME = frozenset({"header", "footer", "aside"})
"""Around a page's main part they say where it is published; within an article they belong to it."""

_BLOCKS = frozenset(
    {
        *("p", "div", "section", "article", "main", "body", "html", "header", "footer", "aside", "blockquote", "pre"),
        *("ul", "ol", "dl", "dt", "dd", "li", "figure", "figcaption", "form", "fieldset", "address", "details"),
        *("summary", "table", "caption", "center", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "td", "th"),
        *("thead", "tbody", "tfoot", "legend", "hgroup", "search"),
    }
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_ITEMS = frozenset({"li", "dt", "dd"})


PictureOf = Callable[[str], int | None]
"""The number of the picture at an address, or None where there is none in the file."""


def embedded(address: str) -> bytes | None:
    """The file that an address carries in itself (RFC 2397), or None if it leads elsewhere."""
    head, comma, data = address.strip().partition(",")
    if not comma or not head[:32].lower().startswith("data:image/") or not head.lower().endswith(";base64"):
        return None
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def write_page(writer: Writer, text: str, *, level: int = 0, picture_of: PictureOf = lambda _: None) -> bool:
    """Writes what a page says; says whether there was anything.

    Args:
        writer: Takes it.
        text: The page.
        level: So many levels further in its headings go.
        picture_of: Finds pictures by their addresses.
    """
    root = parse_html(text)
    if root is None:
        return False
    title = next((one for one in root.iter("title")), None)
    mains = [one for one in root.iter("main") if not _is_hidden(one)] or [
        one for one in root.iter() if one.get("role") == "main" and not _is_hidden(one)
    ]
    page = _Page(writer, level, picture_of)
    first = None if title is None else " ".join("".join(title.itertext()).split())
    has_heading = any(True for _ in root.iter("h1"))
    if first and not has_heading:
        writer.heading(level + 1, first)
    for part in mains[:1] or [root]:
        page.write(part)
    page.flush()
    if not page.wrote and mains:
        page.write(root)
        page.flush()
    return page.wrote


class _Page:
    """Collects the words of a block until it ends."""

    def __init__(self, writer: Writer, level: int, picture_of: PictureOf = lambda _: None) -> None:
        self._writer = writer
        self._level = level
        self._picture_of = picture_of
        self._words: list[str] = []
        self._item = False
        self.wrote = False

    def write(self, element: Element) -> None:
        """All that is seen of an element; libxml2 bounds how deep this goes."""
        name = local(element)
        if name == "svg" and not _is_hidden(element):
            self._pictures_in(element)
        if name in _UNSEEN or _is_hidden(element):
            return
        if name in _FRAME and not any(local(above) in {"article", "main"} for above in element.iterancestors()):
            return
        if name in _HEADINGS:
            self.flush()
            self._collect(element)
            self._writer.heading(self._level + _HEADINGS[name], "".join(self._words))
            self._words.clear()
            self._pictures_in(element)
        elif name == "table" and _is_data(element):
            self.flush()
            self._table(element)
            self._pictures_in(element)
        elif name == "pre":
            self.flush()
            self._put("".join(element.itertext()))
        elif name == "br":
            self._words.append("\n")
        elif name == "img":
            self._picture(element)
        elif name == "figcaption":
            self.flush()
            self._collect(element)
            self._writer.caption(" ".join("".join(self._words).split()))
            self._words.clear()
            self.wrote = True
        else:
            self._inside(element, name)

    def _picture(self, element: Element) -> None:
        text = element.get("alt") or element.get("title") or ""
        number = self._picture_of(element.get("src") or "")
        if number is None:
            self._words.append(f" {element.get('alt', '')} ")
            return
        is_item = self._item
        self.flush()
        self._item = is_item
        self._writer.picture(number, text)
        self.wrote = True

    def _pictures_in(self, element: Element) -> None:
        """The pictures in what is written as a whole: a table, a heading, a drawing (a book's cover is one)."""
        for shown in element.iter("img", "image"):
            number = self._picture_of(shown.get("src") or shown.get("href") or shown.get("xlink:href") or "")
            if number is not None:
                self.flush()
                self._writer.picture(number, shown.get("alt") or shown.get("title") or "")
                self.wrote = True

    def _inside(self, element: Element, name: str) -> None:
        block = name in _BLOCKS
        if block:
            self.flush()
            self._item = name in _ITEMS
            if name == "li":
                self._words.append("- ")
        self._words.append(_spaced(element.text))
        for child in element:
            self.write(child)
            self._words.append(_spaced(child.tail))
        if block:
            self.flush()

    def flush(self) -> None:
        """Ends a block."""
        lines = (" ".join(line.split()) for line in "".join(self._words).split("\n"))
        self._words.clear()
        self._put("\n".join(line for line in lines if line.strip("- ")))
        self._item = False

    def _put(self, text: str) -> None:
        if text.strip():
            (self._writer.line if self._item else self._writer.paragraph)(text)
            self.wrote = True

    def _collect(self, element: Element) -> None:
        """The words within an element, whatever it has in it."""
        self._words.append(_spaced(element.text))
        for child in element:
            if local(child) not in _UNSEEN and not _is_hidden(child):
                self._collect(child)
            self._words.append(_spaced(child.tail))

    def _table(self, table: Element) -> None:
        rows = [
            [_cell(cell) for cell in children(row) if local(cell) in {"td", "th"}]
            for row in table.iter("tr")
            if next(above for above in row.iterancestors() if local(above) == "table") is table
        ]
        for caption in table.iter("caption"):
            self._writer.paragraph(" ".join("".join(caption.itertext()).split()))
        write_rows(self._writer, rows)
        self.wrote = self.wrote or any(any(row) for row in rows)


def _cell(cell: Element) -> str:
    page = _Page(Writer(2**31), 0)
    page._collect(cell)
    return "".join(page._words)


def _is_data(table: Element) -> bool:
    """Whether a table is one, and not a page's layout as of 1999, which has tables or blocks of text in it."""
    if table.get("role") == "presentation":
        return False
    cells = list(table.iter("td", "th"))
    return not any(
        local(inner) in {"table", "h1", "h2", "h3", "form", "article"} for inner in table.iterdescendants()
    ) and (len(cells) > 1)


def _is_hidden(element: Element) -> bool:
    if not isinstance(element.tag, str):
        return True
    style = (element.get("style") or "").replace(" ", "").lower()
    return (
        element.get("hidden") is not None
        or element.get("aria-hidden") == "true"
        or "display:none" in style
        or "visibility:hidden" in style
    )


def _spaced(text: str | None) -> str:
    """Text between tags, in which an end of line is a blank."""
    return "" if text is None else text.replace("\r", " ").replace("\n", " ")
