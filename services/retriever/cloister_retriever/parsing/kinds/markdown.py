"""Markdown: the text as it is, cut into sections where a parser of CommonMark finds headings."""

from collections.abc import Iterator

from markdown_it import MarkdownIt

from cloister_retriever.parsing.document import Document, Heading
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.kinds.text import read_text
from cloister_retriever.parsing.outline import segments

__all__ = ["MARKDOWN", "headings"]

_NAMES = (".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd")
_MAX_TITLE = 1_000
"""Characters of a heading that are read as Markdown themselves."""

_BLOCKS = MarkdownIt("commonmark")
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])
# A definition is looked for in every paragraph that begins with a bracket, and again behind each that is none.
_BLOCKS.block.ruler.disable(["reference"])
_WORDS = MarkdownIt("commonmark")


def headings(text: str) -> Iterator[Heading]:
    """The headings of a text, in its order: those of its own, not those within quotes and lists."""
    begins = [0]
    for line in text.split("\n"):
        begins.append(begins[-1] + len(line) + 1)
    begins[-1] = len(text)
    skipped = _front_matter(text)
    tokens = _BLOCKS.parse(text[begins[skipped] :])
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            first, last = (begins[min(line + skipped, len(begins) - 1)] for line in token.map)
            yield Heading(first, last, int(token.tag[1:]), _title(tokens[at + 1].content))


def _front_matter(text: str) -> int:
    """The lines of settings that stand before the text, between dashes: no Markdown."""
    if not text.startswith("---\n"):
        return 0
    end = text.find("\n---\n", 3)
    return text.count("\n", 0, end) + 2 if end >= 0 else 0


def _title(markup: str) -> str:
    """A heading without its marks."""
    words = _WORDS.parseInline(markup[:_MAX_TITLE])[0].children or []
    return " ".join("".join(word.content for word in words if word.type in {"text", "code_inline"}).split())


def _parse(source: Source) -> Document:
    text, note = read_text(source)
    found = list(headings(text))
    notes = [] if note is None else [note]
    return Document(text, markdown=True, segments=segments(text, found), headings=found, notes=notes)


def _claims(look: Look) -> bool:
    return look.name.endswith(_NAMES) and not look.is_binary


MARKDOWN = Kind("markdown", called=("Markdown",), parse=_parse, claims=_claims)
