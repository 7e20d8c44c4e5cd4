"""Rich text: its words, headings and rows out of RTF's control words, in one pass (Word's RTF specification 1.9.1)."""

import codecs
import re
from dataclasses import dataclass, field, replace

from cloister_retriever.parsing.outline import Writer
from cloister_retriever.parsing.rows import line_of

__all__ = ["html_within", "write_rich_text"]

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)

_SKIPPED = frozenset(
    {
        *("fonttbl", "colortbl", "stylesheet", "info", "pict", "objdata", "themedata", "colorschememapping"),
        *("latentstyles", "datastore", "listtable", "listoverridetable", "rsidtbl", "generator", "xmlnstbl", "fldinst"),
        *("header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf", "bkmkstart", "bkmkend"),
        *(
            "filetbl",
            "revtbl",
            "mmathPr",
            "pgptbl",
            "private",
            "xe",
            "tc",
            "template",
            "listtext",
            "pntext",
            "nonshppict",
        ),
        *(
            "annotation",
            "atnid",
            "atnauthor",
            "atrfstart",
            "atrfend",
            "atndate",
            "atnref",
            "userprops",
            "wgrffmtfilter",
        ),
    }
)
_SIGNS = {
    "emdash": "\u2014",
    "endash": "\u2013",
    "lquote": "\u2018",
    "rquote": "\u2019",
    "ldblquote": "\u201c",
    "rdblquote": "\u201d",
    "bullet": "\u2022",
    "emspace": " ",
    "enspace": " ",
    "qmspace": " ",
    "tab": "\t",
    "line": "\n",
    "softline": "\n",
    "zwnj": "\u200c",
    "zwj": "\u200d",
}
_SYMBOLS = {b"~": "\u00a0", b"_": "-", b"{": "{", b"}": "}", b"\\": "\\"}  # \- is a hyphen where a line may end
_ENDS = frozenset({"par", "sect", "page", "column"})

_CODEPAGES = {
    0: "cp1252",
    77: "mac-roman",
    128: "cp932",
    129: "cp949",
    130: "johab",
    134: "gb18030",
    136: "cp950",
    161: "cp1253",
    162: "cp1254",
    163: "cp1258",
    177: "cp1255",
    178: "cp1256",
    186: "cp1257",
    204: "cp1251",
    222: "cp874",
    238: "cp1250",
    254: "cp437",
    255: "cp850",
}
"""Of a font's character set (``\\fcharset``)."""

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


@dataclass
class _Reader:
    """The state of one pass."""

    writer: Writer
    encoding: str = "cp1252"
    group: _Group = field(default_factory=_Group)
    above: list[_Group] = field(default_factory=list)
    fonts: dict[int, str] = field(default_factory=dict)
    font: int = 0
    styles: dict[int, int] = field(default_factory=dict)
    style_name: bytearray = field(default_factory=bytearray)
    words: list[str] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    cells: list[str] = field(default_factory=list)
    to_skip: int = 0

    def read(self, content: bytes) -> None:
        """All of a file. What is behind the last brace is not part of it."""
        at = 0
        while at < len(content):
            token = _TOKEN.match(content, at)
            if token is None:
                break  # a backslash as the last byte
            at = token.end()
            word, number, code, symbol, brace, text = token.groups()
            if word is not None:
                value = None if number is None else int(number)
                if word == b"bin":
                    at += max(value or 0, 0)
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
        self._flush()
        self._end_paragraph()

    def _word(self, word: str, value: int | None) -> None:
        self.to_skip = 0 if word != "u" else self.to_skip
        if word in _SKIPPED:
            self._flush()
            self.group.skipped = True
            self.group.destination = word
        elif not self._setting(word, value) and not self.group.skipped and not self._layout(word, value):
            self._sign(word, value)

    def _setting(self, word: str, value: int | None) -> bool:
        """What holds in tables of fonts and styles too; says whether it was such a word."""
        if word == "ansicpg" and value:
            self.encoding = _known(f"cp{value}") or self.encoding
        elif word == "mac":
            self.encoding = "mac-roman"
        elif word == "f" and value is not None:
            self._flush()
            self.font = value
            self.group.encoding = self.fonts.get(value)
        elif word == "fcharset" and self.group.destination == "fonttbl":
            if value and value in _CODEPAGES:
                self.fonts[self.font] = _CODEPAGES[value]
        elif word == "uc":
            self.group.fallback = max(value if value is not None else 1, 0)
        elif word == "s" and value is not None:
            self.group.style = value
        else:
            return False
        return True

    def _layout(self, word: str, value: int | None) -> bool:
        """What parts paragraphs and cells; says whether it was such a word."""
        if word in _ENDS:
            self._flush()
            self._end_paragraph()
        elif word in {"cell", "nestcell"}:
            self._flush()
            self.cells.append("".join(self.words))
            self.words.clear()
        elif word in {"row", "nestrow"}:
            self._flush()
            self.writer.line(line_of(self.cells))
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
        elif word in _SIGNS:
            self._flush()
            self.words.append(_SIGNS[word])
        elif word == "footnote":
            self._flush()
            self.words.append(" (")
            self.group.destination = word

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self._flush()
            self.group.skipped = True
        elif symbol in b"\r\n":
            self._flush()
            self._end_paragraph()
        elif symbol in _SYMBOLS and not self.group.skipped:
            self._flush()
            self.words.append(_SYMBOLS[symbol])

    def _bytes(self, text: bytes) -> None:
        if self.group.destination == "stylesheet":
            self.style_name += text
        if self.to_skip:
            skipped = min(self.to_skip, len(text))
            self.to_skip -= skipped
            text = text[skipped:]
        if not self.group.skipped and not self.group.hidden:
            self.raw += text

    def _end_group(self) -> None:
        if self.group.destination == "stylesheet" and self.style_name:
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
        text = _paired("".join(self.words))
        self.words.clear()
        level = self.group.level or self.styles.get(self.group.style)
        if level is not None and len(text) < 500:
            self.writer.heading(level, text)
        else:
            self.writer.paragraph(text)

    def _flush(self) -> None:
        """Bytes become text when nothing can be added to them: a character may be two."""
        if self.raw:
            self.words.append(self.raw.decode(self.group.encoding or self.encoding, "replace"))
            self.raw.clear()


def write_rich_text(writer: Writer, content: bytes) -> None:
    """Writes what a file says. What cannot be understood of it is passed over, as RTF says."""
    _Reader(writer).read(content)


def html_within(content: bytes) -> str | None:
    """The page that Outlook has wrapped in RTF, or None (MS-OXRTFEX 2.1.3.1)."""
    if b"\\fromhtml" not in content[:1024]:
        return None
    encoding = "cp1252"
    parts: list[str] = []
    depth = tag = at = 0
    hidden = False
    while at < len(content) and (token := _TOKEN.match(content, at)):
        at = token.end()
        word, number, _, _, brace, _ = token.groups()
        if brace is not None:
            depth += 1 if brace == b"{" else -1
            tag = 0 if depth < tag else tag
        elif word == b"htmltag":
            tag = depth
        elif word == b"htmlrtf":
            hidden = number != b"0"
        elif word == b"ansicpg" and number:
            encoding = _known(f"cp{int(number)}") or encoding
        elif word == b"bin":
            at += max(int(number or 0), 0)
        elif not hidden and (tag or depth == 1):
            parts.append(_shown(token, encoding))
    return _paired("".join(parts))


def _shown(token: re.Match[bytes], encoding: str) -> str:
    """What a token of a wrapped page stands for."""
    word, number, code, symbol, _, text = token.groups()
    if text is not None:
        return str(text.decode(encoding, "replace"))
    if code is not None:
        return bytes([int(code, 16)]).decode(encoding, "replace")
    if word in {b"par", b"line"}:
        return "\n"
    if word == b"u" and number:
        return chr(int(number) % 0x10000)
    if word is not None:
        return _SIGNS.get(word.decode("ascii"), "")
    return _SYMBOLS.get(symbol or b"", "")


def _known(encoding: str) -> str | None:
    try:
        return codecs.lookup("utf-8" if encoding == "cp65001" else encoding).name
    except LookupError:
        return None


def _paired(text: str) -> str:
    """Halves of characters beyond the first plane, put together."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
