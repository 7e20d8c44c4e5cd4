"""What an answer is where it stands now: prose, in which a marker may come, or something whose brackets are its own.

Code (spans, fences and indented blocks as CommonMark has them, and HTML's), JSON, links, addresses, formulas, indexed
names: all of them go on over many chunks, so what was passed over is kept as little as it takes to tell.
"""

import re

__all__ = ["Surroundings"]

_BEFORE_A_FENCE = frozenset(" \t>*+-.0123456789")
"""What may stand on a line before a fence: indentation, quotes, and the bullets and numbers of lists."""
_LEAST_FENCE = 3
_BULLET = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+")
_CODE_COLUMNS = 4
_HTML = re.compile(r"<(/?)(?:code|pre|samp|kbd|script|style|math)\b", re.IGNORECASE)
_OF_CODE = re.compile(r"[_/\\$={}<\[`]|->|::|\w\($|[^\W\d_]{2,}\.[^\W\d_]|://|^www\.|^[\W_]*[a-z]$")
"""In what a bracket is glued to: names of code, paths, formulas, calls. ``Paris[1]`` is none of them."""
_NO_STATEMENT = frozenset(":=,{[\\^_$<+/&@#~")
"""After these no statement has ended: what comes is a value."""
_BRACKETS = frozenset("{}[]")
_BETWEEN_MARKERS = frozenset({"", ",", ";", "and", "und", "et", "и", "&", ", and"})


class Surroundings:
    """Follows an answer."""

    def __init__(self) -> None:
        self.code = ""
        self._line = ""
        self._begun = False
        self._after_blank = True
        self._after_colon = False
        self._indented = False
        self._list_columns = 0
        self._html = False
        # The brackets that are open, and whether a line began with the first of them, as the lines of JSON do.
        self._open = ""
        self._document = False
        # What came on this line after the last marker.
        self._since: str | None = None

    def pass_over(self, text: str) -> None:
        """Takes what is no marker and no fence."""
        first, *others = text.split("\n")
        self._add(first)
        for line in others:
            self._end_line()
            self._add(line)

    def pass_marker(self) -> None:
        """Takes that a marker was there."""
        self._since = ""

    def fence(self, run: str) -> None:
        """Opens or closes code. A span closes at a run of the same length, a fence at one as long on a line's start."""
        begins_line = _BEFORE_A_FENCE.issuperset(self._line)
        if not self.code:
            is_fence = begins_line and len(run) >= _LEAST_FENCE
            if is_fence or run[0] == "`":
                self.code = "\n" + run if is_fence else run
        elif self.code[0] != "\n":
            self.code = "" if run == self.code else self.code
        elif begins_line and run.startswith(self.code[1:]):
            self.code = ""

    def may_be_marker(self, brackets: str, following: str) -> bool:
        """Whether ``brackets``, a space before them included, are a marker here.

        Args:
            brackets: As they stand.
            following: The character behind them; empty at the end of the answer.
        """
        if self.code or self._open or self._is_html() or self._is_indented_code() or (following and following in "(]="):
            return False
        said = self._line.strip()
        if not said:
            # The definition of a link, the value that was announced, or an answer that is a list and nothing else.
            whole = not self._begun and following in {"", "\n"}
            return following != ":" and not self._after_colon and not whole
        if self._since is not None and self._since.strip() in _BETWEEN_MARKERS:
            return True
        if brackets.startswith(" ") or self._line[-1:].isspace():
            return said[-1] not in _NO_STATEMENT or _BULLET.fullmatch(self._line + " ") is not None
        glued = self._line.split()[-1].rpartition("`")[2]
        return not glued or not (glued[-1] in _NO_STATEMENT or glued[-1] in "!]*-" or _OF_CODE.search(glued))

    def _add(self, text: str) -> None:
        if not self.code and not _BRACKETS.isdisjoint(text):
            for character in text:
                self._bracket(character)
                self._line += character
        else:
            self._line += text
        if self._since is not None:
            self._since += text
        self._begun = self._begun or bool(text.strip())

    def _bracket(self, character: str) -> None:
        if character in "{[":
            if not self._open:
                self._document = not self._line.strip()
            self._open += character
        elif character in "}]" and self._open:
            self._open = self._open[:-1]

    def _end_line(self) -> None:
        line = self._line
        self._html = self._is_html()
        if line.strip():
            self._indented = self._is_indented_code()
            bullet = _BULLET.match(line)
            if bullet and not self._indented:
                self._list_columns = _columns(bullet.group())
            elif self._after_blank and not line[0].isspace():
                self._list_columns = 0
            self._after_colon = line.rstrip().endswith(":")
            self._after_blank = False
        else:
            self._after_blank = True
            if self.code[:1] == "`":
                self.code = ""  # A span of code that its paragraph does not close was none.
            if not self._document:
                self._open = ""
        self._line = ""
        self._since = None

    def _is_html(self) -> bool:
        """Whether an element of HTML that holds code is open."""
        last = self._html
        for tag in _HTML.finditer(self._line):
            last = not tag[1]
        return last

    def _is_indented_code(self) -> bool:
        indentation = self._line[: len(self._line) - len(self._line.lstrip(" \t"))]
        deep = _columns(indentation) >= self._list_columns + _CODE_COLUMNS
        return deep and (self._after_blank or self._indented)


def _columns(text: str) -> int:
    return len(text.expandtabs(_CODE_COLUMNS))
