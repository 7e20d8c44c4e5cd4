"""RTF's control words, and what they stand for (Word's RTF specification 1.9.1)."""

import codecs
import re

__all__ = ["CODEPAGES", "ENDS", "MARGINS", "SIGNS", "SKIPPED", "SYMBOLS", "TOKEN", "known", "paired"]

TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)

SKIPPED = frozenset(
    {
        *("fonttbl", "colortbl", "stylesheet", "info", "objdata", "themedata", "colorschememapping", "mmathPr"),
        *("latentstyles", "datastore", "listtable", "listoverridetable", "rsidtbl", "generator", "xmlnstbl", "fldinst"),
        *("bkmkstart", "bkmkend", "filetbl", "revtbl", "pgptbl", "private", "xe", "tc", "template", "listtext"),
        *("pntext", "nonshppict", "shprslt", "atnid", "atnauthor", "atrfstart", "atrfend", "atndate", "atnref"),
        *("userprops", "wgrffmtfilter", "ftnsep", "ftnsepc", "aftnsep", "aftnsepc"),
    }
)
"""Groups whose text is none of the document's, or stands twice for older programs."""

MARGINS = frozenset({"header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf"})
SIGNS = {
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
SYMBOLS = {b"~": "\u00a0", b"_": "-", b"{": "{", b"}": "}", b"\\": "\\"}  # \- is a hyphen where a line may end
ENDS = frozenset({"par", "sect", "page", "column"})

CODEPAGES = {
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


def known(encoding: str) -> str | None:
    """Python's name of an encoding, if it has it."""
    try:
        return codecs.lookup("utf-8" if encoding == "cp65001" else encoding).name
    except LookupError:
        return None


def paired(text: str) -> str:
    """Halves of characters beyond the first plane, put together."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
