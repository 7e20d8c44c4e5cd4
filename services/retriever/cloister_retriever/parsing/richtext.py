"""Rich text: its words, headings, rows and pictures out of RTF's control words, in one pass."""

import contextlib
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cloister_retriever.parsing.album import NO_PICTURES, Album
from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.rows import line_of
from cloister_retriever.parsing.rtf_words import CODEPAGES, ENDS, MARGINS, SIGNS, SKIPPED, SYMBOLS, TOKEN, known, paired

__all__ = ["write_rich_text"]

_DEEPEST = 1_000


@dataclass
class _Group:
    """What a group of braces has of its own."""

    skipped: bool = False
    encoding: str | None = None
    fallback: int = 1
    """Characters that stand for a ``\\u`` in programs that do not know it."""

    destination: str = ""
    style: int = 0
    level: int | None = None
    in_table: bool = False
    hidden: bool = False


class _Around(NamedTuple):
    """What a group that is set aside stands in: words and cells that go on behind it."""

    kind: str
    depth: int
    words: list[str]
    cells: list[str]


@dataclass
class _Reader:
    """The state of one pass."""

    writer: Writer
    album: Album
    encoding: str = "cp1252"
    group: _Group = field(default_factory=_Group)
    above: list[_Group] = field(default_factory=list)
    fonts: dict[int, str] = field(default_factory=dict)
    font: int = 0
    styles: dict[int, int] = field(default_factory=dict)
    style_name: bytearray = field(default_factory=bytearray)
    property_name: bytearray = field(default_factory=bytearray)
    words: list[str] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    cells: list[str] = field(default_factory=list)
    to_skip: int = 0
    around: list[_Around] = field(default_factory=list)
    margins: set[str] = field(default_factory=set)
    comments: list[str] = field(default_factory=list)
    picture: bytearray = field(default_factory=bytearray)
    """As it is in the file: in hexadecimal digits, or behind ``\\bin``."""

    described: str = ""
    pictures: list[tuple[int | None, str]] = field(default_factory=list)
    """Of the paragraph that is being read, each with what stands for it."""

    def read(self, content: bytes) -> None:
        """All of a file. What is behind the last brace is not part of it."""
        at = 0
        while at < len(content):
            token = TOKEN.match(content, at)
            if token is None:
                break  # a backslash as the last byte
            at = token.end()
            word, number, code, symbol, brace, text = token.groups()
            if word is not None:
                value = None if number is None else int(number)
                if word == b"bin":
                    at += self._binary(content, at, max(value or 0, 0))
                else:
                    self._word(word.decode("ascii"), value)
            elif code is not None:
                self._bytes(bytes([int(code, 16)]))
            elif symbol is not None:
                self._symbol(symbol)
            elif brace == b"{":
                self._flush()
                self.above.append(self.group)
                self.group = replace(self.group)
                if len(self.above) > _DEEPEST:
                    break
            elif brace == b"}":
                self._flush()
                self._end_group()
                if not self.above:
                    break
                self.group = self.above.pop()
            elif text is not None:
                self._bytes(text)
        self._end()

    def _end(self) -> None:
        self._flush()
        while self.around:
            self._end_aside()
        # A file that was cut off ends within groups, whose words are read all the same.
        self.group = _Group()
        if self.cells:
            self._layout("cell", None)
            self._layout("row", None)
        self._end_paragraph()
        for comment in self.comments:
            self.writer.paragraph(comment)

    def _word(self, word: str, value: int | None) -> None:
        self.to_skip = 0 if word != "u" else self.to_skip
        if word in SKIPPED:
            self._flush()
            self.group.skipped = True
            self.group.destination = word
        elif self._destination(word):
            return
        elif not self._setting(word, value) and not self.group.skipped and not self._layout(word, value):
            self._sign(word, value)

    def _destination(self, word: str) -> bool:
        """Groups that stand apart from the text; says whether it was such a word.

        Most are behind a ``\\*``, which lets programs skip what they do not know.
        """
        outside = not self.above or not self.above[-1].skipped
        within = self.group.destination
        if (word in MARGINS and not self.group.skipped) or (word == "annotation" and outside):
            self._set_aside(word)
        elif word in {"shpinst", "shppict"} and outside:
            self.group.destination = word
        elif word == "shptxt" and within == "shpinst":
            self._set_aside(word)
        elif word == "pict" and (not self.group.skipped or within in {"shpinst", "shppict"}):
            self._flush()
            self.group.skipped, self.group.destination, self.described = True, word, ""
            self.picture.clear()
        elif word == "picprop" or (word == "sn" and within == "picprop"):
            self.group.destination = word
            self.property_name.clear()
        elif word == "sv" and within == "picprop":
            if self.property_name.strip() == b"wzDescription":
                self._set_aside(word)
        elif word != "pict":
            return False
        return True

    def _set_aside(self, kind: str) -> None:
        """What is in the group that begins here is no part of the paragraph that it stands in."""
        self._flush()
        if self.around and self.around[-1].depth == len(self.above):
            return
        self.around.append(_Around(kind, len(self.above), self.words, self.cells))
        self.words, self.cells = [], []
        self.group = replace(self.group, skipped=False, hidden=False, in_table=False, destination=kind)

    def _end_aside(self) -> None:
        text = paired("".join(self.words)).strip()
        kind, _, self.words, self.cells = self.around.pop()
        if kind == "sv":
            self.described = text
        elif kind == "annotation":
            self.comments.append(text)
        elif kind == "shptxt":
            self.writer.paragraph(text)
        else:
            # Each once; a number says nothing.
            for line in (" ".join(line.split()) for line in text.splitlines()):
                if line not in self.margins and any(map(str.isalpha, line)):
                    self.margins.add(line)
                    self.writer.line(line)

    def _binary(self, content: bytes, at: int, length: int) -> int:
        """Takes the bytes of a picture that are not in digits; returns how many there are."""
        if self.group.destination == "pict":
            self.picture += content[at : at + length].hex().encode()
        return length

    def _end_picture(self) -> None:
        if self.album.takes_any and not any(one.kind in MARGINS for one in self.around):
            with contextlib.suppress(ValueError):
                content = bytes.fromhex(self.picture.decode("ascii"))
                self.pictures.append((self.album.take(content), self.described))
        self.picture.clear()

    def _setting(self, word: str, value: int | None) -> bool:
        """What holds in tables of fonts and styles too; says whether it was such a word."""
        if word == "ansicpg" and value:
            self.encoding = known(f"cp{value}") or self.encoding
        elif word == "mac":
            self.encoding = "mac-roman"
        elif word == "f" and value is not None:
            self._flush()
            self.font = value
            self.group.encoding = self.fonts.get(value)
        elif word == "fcharset" and self.group.destination == "fonttbl":
            if value and value in CODEPAGES:
                self.fonts[self.font] = CODEPAGES[value]
        elif word == "uc":
            self.group.fallback = max(value if value is not None else 1, 0)
        elif word == "s" and value is not None:
            self.group.style = value
        else:
            return False
        return True

    def _layout(self, word: str, value: int | None) -> bool:
        """What parts paragraphs and cells; says whether it was such a word."""
        if word in ENDS:
            self._flush()
            self._end_paragraph()
        elif word in {"cell", "nestcell"}:
            self._flush()
            self.cells.append("".join(self.words))
            self.words.clear()
        elif word in {"row", "nestrow"}:
            self._flush()
            if self.around:
                self.words.append(f"{line_of(self.cells)}\n")
            else:
                self.writer.line(line_of(self.cells))
                self._write_pictures()
            self.cells.clear()
        elif word == "pard":
            self._flush()
            self.group.style, self.group.level, self.group.in_table = 0, None, False
        elif word == "intbl":
            self.group.in_table = True
        elif word == "outlinelevel" and value is not None:
            self.group.level = value + 1
        else:
            return False
        return True

    def _sign(self, word: str, value: int | None) -> None:
        """A word that stands for characters, or hides them."""
        if word == "u" and value is not None:
            self._flush()
            # Beyond the first plane a character is two of these, which are put together at the paragraph's end.
            self.words.append(chr(value % 0x10000))
            self.to_skip = self.group.fallback
        elif word in {"v", "deleted"}:
            self._flush()
            self.group.hidden = value != 0
        elif word in SIGNS:
            self._flush()
            self.words.append(SIGNS[word])
        elif word == "footnote":
            self._flush()
            self.words.append(" (")
            self.group.destination = word

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self._flush()
            # Within a shape it is still known whose.
            kept = self.group.destination in {"shpinst", "shppict"}
            self.group = replace(self.group, skipped=True, destination=self.group.destination if kept else "*")
        elif symbol in b"\r\n":
            self._flush()
            self._end_paragraph()
        elif symbol in SYMBOLS and not self.group.skipped:
            self._flush()
            self.words.append(SYMBOLS[symbol])

    def _bytes(self, text: bytes) -> None:
        if self.group.destination == "stylesheet":
            self.style_name += text
        elif self.group.destination == "pict":
            self.picture += text
        elif self.group.destination == "sn":
            self.property_name += text
        if self.to_skip:
            skipped = min(self.to_skip, len(text))
            self.to_skip -= skipped
            text = text[skipped:]
        if not self.group.skipped and not self.group.hidden:
            self.raw += text

    def _end_group(self) -> None:
        if self.around and self.around[-1].depth == len(self.above):
            self._end_aside()
        elif self.group.destination == "pict" and (not self.above or self.above[-1].destination != "pict"):
            self._end_picture()
        elif self.group.destination == "stylesheet" and self.style_name:
            name = self.style_name.decode("latin-1").strip(" ;").lower()
            kind, _, level = name.partition(" ")
            if kind == "heading" and level[:1].isdigit():
                self.styles[self.group.style] = int(level[0])
            elif name == "title":
                self.styles[self.group.style] = 1
            self.style_name.clear()
        elif self.group.destination == "footnote" and self.above and self.above[-1].destination != "footnote":
            self.words.append(")")

    def _end_paragraph(self) -> None:
        if self.group.skipped:
            return
        if self.group.in_table:
            self.words.append(" ")
            return
        if self.around:
            self.words.append("\n")
            return
        text = paired("".join(self.words))
        self.words.clear()
        level = self.group.level or self.styles.get(self.group.style)
        if level is not None and len(text) < 500:
            self.writer.heading(level, text)
        else:
            self.writer.paragraph(text)
        self._write_pictures()

    def _write_pictures(self) -> None:
        for number, text in self.pictures:
            self.writer.picture(number, text)
        self.pictures.clear()

    def _flush(self) -> None:
        """Bytes become text when nothing can be added to them: a character may be two."""
        if self.raw:
            self.words.append(self.raw.decode(self.group.encoding or self.encoding, "replace"))
            self.raw.clear()


def write_rich_text(writer: Writer, content: bytes, album: Album | None = None) -> None:
    """Writes what a file says, with its pictures for the ``album``. What cannot be understood of it is passed over, as
    RTF says."""
    _Reader(writer, album or Album(NO_PICTURES)).read(content)
