"""Calendars and address cards (RFC 5545, RFC 6350, vCard 2.1): each entry's lines, whole and as a person reads them."""

import base64
import binascii
import quopri
import re
from collections.abc import Iterator

from cloister_retriever.parsing.decoding import decode
from cloister_retriever.parsing.document import Document, UnreadableFile
from cloister_retriever.parsing.kinds.kind import Kind, Look, Source
from cloister_retriever.parsing.outline import Writer

__all__ = ["CARDS"]

_BEGINS = re.compile(rb"\s*BEGIN:(?:VCALENDAR|VCARD)[ \t]*\r?\n", re.IGNORECASE)
_LONGEST_HEAD = 2_000
_DEEPEST = 10
_FOLDED = re.compile(r"\r?\n[ \t]")
_ESCAPED = re.compile(r"\\(.)")
_MOMENT = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T(\d\d):?(\d\d)(?::?\d\d)?(Z?))?")
_MOMENTS = frozenset(
    {"DTSTART", "DTEND", "DUE", "COMPLETED", "RECURRENCE-ID", "EXDATE", "RDATE", "BDAY", "ANNIVERSARY"}
)
_OWN = frozenset(
    {
        *(
            "BEGIN",
            "END",
            "VERSION",
            "PRODID",
            "UID",
            "DTSTAMP",
            "CREATED",
            "LAST-MODIFIED",
            "SEQUENCE",
            "REV",
            "TRIGGER",
        ),
        *(
            "CALSCALE",
            "METHOD",
            "TRANSP",
            "CLASS",
            "TZID",
            "TZOFFSETFROM",
            "TZOFFSETTO",
            "TZNAME",
            "ACTION",
            "N",
            "KEY",
        ),
    }
)
"""What a program writes and no person; of a name ``FN`` has it as it is said."""

_WITHOUT = frozenset({"VTIMEZONE", "VALARM"})


def _parse(source: Source) -> Document:
    decoded = decode(source.content, languages=source.languages)
    writer = Writer(source.max_text_bytes)
    if decoded.note is not None:
        writer.note(decoded.note)
    entries: list[str] = []
    for line in _lines(decoded.text):
        name, parameters, value = _property(line)
        if name == "BEGIN":
            entries.append(value.strip().upper())
            writer.apart()
        elif name == "END" and entries:
            entries.pop()
        elif name and not _WITHOUT & set(entries[-_DEEPEST:]) and name not in _OWN and not name.startswith("X-"):
            _write(writer, source, name, parameters, value)
    if writer.is_empty:
        raise UnreadableFile("invalid_file", "The calendar or address card has no entries.")
    return writer.document()


def _lines(text: str) -> Iterator[str]:
    """The lines as they were before they were folded. Quoted ones are folded by a sign of their own."""
    held: list[str] = []
    for line in _FOLDED.sub("", text).splitlines():
        held.append(line)
        if line.endswith("=") and "QUOTED-PRINTABLE" in held[0][:_LONGEST_HEAD].upper():
            held[-1] = line[:-1]
            continue
        yield "".join(held)
        held.clear()
    yield "".join(held)


def _property(line: str) -> tuple[str, str, str]:
    """A line's name without its group, its parameters and its value. A colon in quotes ends no parameter."""
    in_quotes = False
    for at, char in enumerate(line[:_LONGEST_HEAD]):
        in_quotes ^= char == '"'
        if char == ":" and not in_quotes:
            name, _, parameters = line[:at].partition(";")
            return name.rpartition(".")[2].strip().upper(), parameters.upper(), line[at + 1 :]
    return "", "", ""


def _write(writer: Writer, source: Source, name: str, parameters: str, value: str) -> None:
    if "ENCODING=B" in parameters or value.startswith("data:"):
        if name in {"PHOTO", "LOGO"}:
            try:
                content = base64.b64decode(value.rpartition(",")[2])
            except (binascii.Error, ValueError):
                return
            writer.picture(source.album.take(content))
        return
    if "QUOTED-PRINTABLE" in parameters:
        value = decode(quopri.decodestring(value.encode()) or b" ").text
    shown = _moment(value) if name in _MOMENTS else None
    if shown is None:
        # Parts of an address are parted by semicolons, and empty ones are left out.
        parts = re.split(r"(?<!\\);", value) if name in {"ADR", "ORG"} else [value]
        shown = ", ".join(_ESCAPED.sub(_unescaped, part) for part in parts if part.strip())
    writer.line(
        f"{name.capitalize()}: {shown.removeprefix('mailto:').removeprefix('MAILTO:')}" if shown.strip() else ""
    )


def _unescaped(found: re.Match[str]) -> str:
    return "\n" if found[1] in "nN" else found[1]


def _moment(value: str) -> str | None:
    found = _MOMENT.fullmatch(value.strip())
    if found is None:
        return None
    day = f"{found[1]}-{found[2]}-{found[3]}"
    return day if found[4] is None else f"{day} {found[4]}:{found[5]}{' UTC' if found[6] else ''}"


def _claims(look: Look) -> bool:
    return not look.is_binary and _BEGINS.match(look.head) is not None


CARDS = Kind("cards", called=("ICS", "VCF"), parse=_parse, claims=_claims)
