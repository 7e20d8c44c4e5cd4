"""CSV and TSV: each row a line that says which value stands in which column."""

import csv
import io
from collections.abc import Iterator

from cloister_retriever.parsing.decoding import clean, decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Source
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.rows import write_records

__all__ = ["DELIMITED"]

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 50


def _parse(source: Source) -> Document:
    decoded = decode(source.content, languages=source.languages)
    text = clean(decoded.text)
    writer = Writer(source.max_text_bytes)
    if decoded.note is not None:
        writer.note(decoded.note)
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first) == len("sep=,"):
        write_records(writer, map(_placed, _rows(rest, first[-1])))
    else:
        write_records(writer, map(_placed, _rows(text, _delimiter(text, source.name))))
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The table has no text.")
    return writer.document()


def _placed(row: list[str]) -> dict[int, str]:
    """The values by their columns."""
    return dict(enumerate(row))


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(len(text) + 1)
    lines = io.StringIO(text, newline="")
    if _quotes_end(text, delimiter):
        yield from csv.reader(lines, delimiter=delimiter)
    else:
        yield from csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)


def _quotes_end(text: str, delimiter: str) -> bool:
    """Whether every value that begins with a quotation mark ends with one: where one does not, as of five inches, it
    would have all rows behind it."""
    if '"' not in text:
        return True
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        return "unexpected end" not in str(error)
    return True


def _delimiter(text: str, name: str) -> str:
    """What stands between values: what most lines have as often as each other, and most often."""
    if name.lower().endswith((".tsv", ".tab")):
        return "\t"
    lines = [line for line in text[: 64 * 1024].split("\n")[:_SAMPLE_LINES] if line.strip()]

    def weight(delimiter: str) -> tuple[int, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(counts, key=counts.count, default=0)
        return (counts.count(usual) if usual else 0), usual

    return max(_DELIMITERS, key=weight)


DELIMITED = Kind(
    "delimited",
    called=("CSV", "TSV"),
    parse=_parse,
    claims=lambda look: not look.is_binary and look.name.endswith((".csv", ".tsv", ".tab")),
)
