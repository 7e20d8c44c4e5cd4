"""In which encoding a text without a byte order mark most probably is: a guess over the whole of it.

chardet compares the text with models of languages, in every encoding that could be. Three things are known here that
it does not know. Files of an office that are not UTF-8 were mostly written by Windows, so that of guesses that are as
good as each other Windows' is taken. In the Latin alphabet letters beyond ASCII stand alone within a word, or as a sign
beside a number, and in every other script they stand in rows: so a file that has a single pound sign is not Greek. And
one byte that was damaged is no proof that a file is in another encoding.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import chardet

__all__ = ["CODECS", "Guess", "guess"]

_LATIN = (
    *("cp1252", "cp1250", "cp1254", "cp1257", "iso8859-15", "iso8859-2", "iso8859-9", "iso8859-3", "iso8859-4"),
    *("iso8859-10", "iso8859-13", "iso8859-16", "cp850", "cp852", "cp437", "cp857", "cp775", "cp865"),
    *("mac-roman", "mac-latin2", "mac-turkish", "cp1258"),
)
_OTHER = (
    *("cp1251", "koi8-r", "koi8-u", "cp866", "iso8859-5", "mac-cyrillic", "cp855", "cp1125", "koi8-t", "kz1048"),
    *("cp1253", "iso8859-7", "cp737", "cp869", "mac-greek", "cp1255", "iso8859-8", "cp862", "cp1256", "iso8859-6"),
    *("cp874", "cp932", "euc_jis_2004", "gb18030", "big5hkscs", "cp949", "johab"),
)
_STATEFUL = ("iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_ext", "iso2022_kr", "hz")
"""Encodings that shift between alphabets by sequences of ASCII."""

CODECS = (*_LATIN, *_OTHER, *_STATEFUL)
"""Every encoding that is considered, by Python's name; each list begins with what is preferred."""

_SHIFTS = (b"\x1b$", b"\x1b(", b"~{")

_FORGIVEN = ("cp1252", "cp1251", "cp932", "euc_jis_2004", "gb18030", "big5hkscs", "cp949")
"""Encodings that a file may be in although some of its bytes are not: chardet leaves them out for a single one."""

_MOST_DAMAGED = 0.01
"""Characters that may be damaged in one of these, as a share of those beyond ASCII."""

_AS_GOOD = 0.985
"""Scores of which the lowest has this share of the best one's are as good as each other. Then Windows-1252 is taken,
and else what makes the most letters of the bytes."""

_FEW = 3
"""Bytes beyond ASCII that tell nothing: they are Windows' where they can be, and make words."""

_UNSURE = 0.97
"""An encoding that reads the file otherwise, and has this share of the score of the one that is taken, leaves doubt."""

_UNUSUAL = frozenset({"cp850", "cp852", "cp437", "cp857", "cp775", "cp865", "mac-roman", "mac-latin2", "mac-turkish"})
"""What nobody has written for twenty years leaves none, where nothing speaks for it."""

_RARE = 0.5
"""What the score of such a one is multiplied by where there is little to tell by: a word or two of what an office
writes today looks like a word of another language in some code page of DOS."""

_LITTLE = 24
"""Bytes beyond ASCII from which on the languages' models are sure enough without that."""

_ODD_POWER = 4
"""A letter beyond ASCII that is a sign, or large, within a word of small letters is odd: the wrong alphabet has one in
every other word, and the right one hardly any. A score is multiplied by the share of what is not odd, to this power."""

_WITHIN = re.compile(r"(?<=[^\W\d_])[^\x00-\x7f](?=[^\W\d_])")
"""A character beyond ASCII between two letters."""

_MOST_WITHIN = 4_000
_OF_WORDS = frozenset({"Ll", "Lo", "Mn"})
"""Categories of small letters, of letters without a size, and of accents that stand alone."""

_JOINS = frozenset("\u2019\u2018\u00b7\u2010\u2011\u2013\u2014\u2026\u00ad\u00a0\u200c\u200d")
"""What may stand within a word, or between two: apostrophes, dashes, blanks, Catalan's point."""

_WELCOME = 1.5
"""What a language that the operator expects multiplies a score by."""

_MOST_LATIN_BYTES = 256 * 1024
"""Lines with characters beyond ASCII that are enough to tell by, wherever in the file they are."""

_LONG_LINE = 240
_STEP = 1024 * 1024
_IN_ROWS = re.compile(rb"[\x80-\xff]{3,}")


class Guess(NamedTuple):
    """An encoding by Python's name, and whether nothing else is nearly as probable."""

    encoding: str
    sure: bool


class _Candidate(NamedTuple):
    encoding: str
    score: float


def guess(content: bytes, *, languages: Sequence[str] = ()) -> Guess | None:
    """The most probable encoding of text that is not UTF-8, or None if there is none. Its time grows with the length.

    Args:
        content: All of it.
        languages: Those that are expected, by ISO 639's two letters.
    """
    if content.isascii():
        shifts = any(mark in content for mark in _SHIFTS)
        found = _candidates(content, _STATEFUL, languages) if shifts else []
        return Guess(found[0].encoding, sure=True) if found else None
    beyond = len(content) - _ascii_count(content)
    in_rows = sum(len(row) for row in _IN_ROWS.findall(content))
    encodings, sample = (_OTHER, content) if in_rows * 2 > beyond else (_LATIN, _lines_beyond_ascii(content))
    found = _candidates(sample, encodings, languages)
    if encodings is _LATIN:
        found = sorted((_weighed(one, sample, beyond) for one in found), key=lambda one: -one.score)
    if not found:
        return None
    good = [one for one in found if one.score >= _AS_GOOD * found[0].score]
    few = beyond <= _FEW and not _odd(sample.decode("cp1252", "replace"))
    usual = (one for one in (found if few else good) if one.encoding == "cp1252")
    chosen = next(usual, None) or max(good, key=lambda one: _letters(sample.decode(one.encoding, "replace")))
    text = sample.decode(chosen.encoding, "replace")
    doubtful = chosen.encoding in _UNUSUAL
    rivals = (one.encoding for one in found if one.score >= _UNSURE * chosen.score)
    sure = all(sample.decode(name, "replace") == text for name in rivals if doubtful or name not in _UNUSUAL)
    return Guess(chosen.encoding, sure)


def _weighed(candidate: _Candidate, sample: bytes, beyond: int) -> _Candidate:
    """A candidate of the Latin alphabet with its score as its words look, and as probable as it is."""
    score = candidate.score * (1 - _odd(sample.decode(candidate.encoding, "replace"))) ** _ODD_POWER
    rare = beyond < _LITTLE and candidate.encoding in _UNUSUAL
    return candidate._replace(score=score * _RARE if rare else score)


def _odd(text: str) -> float:
    """The share of characters beyond ASCII that are within a word and do not belong there."""
    odd = 0
    for match in itertools.islice(_WITHIN.finditer(text), _MOST_WITHIN):
        sign = match[0]
        if sign.isupper():
            odd += text[match.start() - 1].islower()
        else:
            odd += not (unicodedata.category(sign) in _OF_WORDS or sign in _JOINS)
    return odd / max(min(len(text) - _ascii_in(text), _MOST_WITHIN), 1)


def _ascii_in(text: str) -> int:
    return _ascii_count(text.encode("utf-8", "replace"))


def _candidates(sample: bytes, encodings: Sequence[str], languages: Sequence[str]) -> list[_Candidate]:
    """Those of ``encodings`` that ``sample`` can be in, the most probable first; of equals the preferred one."""
    scores: dict[str, float] = {}
    forgiven = dict(_cleaned(sample, encodings))
    for encoding, part in {**forgiven, "": sample}.items():
        among = [encoding] if encoding else [name for name in encodings if name not in forgiven]
        for one in chardet.detect_all(
            part,
            ignore_threshold=True,
            max_bytes=len(part) + 1,
            compat_names=False,
            include_encodings=among,
            no_match_encoding=among[0],
        ):
            name = one["encoding"]
            # Where nothing fits, chardet gives what it was told to give for that, and has not looked whether it does.
            if name in among and (name != among[0] or _fits(part, name)):
                welcome = _WELCOME if one["language"] in languages else 1.0
                scores[name] = max(scores.get(name, 0.0), one["confidence"] * welcome)
    found = [_Candidate(name, score) for name, score in scores.items()]
    return sorted(found, key=lambda one: (-one.score, encodings.index(one.encoding)))


def _cleaned(sample: bytes, encodings: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Encodings that a few bytes of ``sample`` are not in, and it without these."""
    for encoding in set(_FORGIVEN) & set(encodings):
        text = sample.decode(encoding, "replace")
        damaged = text.count("\ufffd")
        if 0 < damaged <= _MOST_DAMAGED * (len(text) - _ascii_count(text.encode())) + 1:
            yield encoding, text.replace("\ufffd", "").encode(encoding, "ignore")


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _ascii_count(content: bytes) -> int:
    return len(content) - len(content.translate(None, bytes(range(128))))


def _lines_beyond_ascii(content: bytes) -> bytes:
    """Only the lines that tell something, from all over the file; of long ones the parts that do."""
    lines: list[bytes] = []
    length = 0
    for first in range(0, len(content), _STEP):
        for line in content[first : first + _STEP].splitlines():
            for at in range(0, 0 if line.isascii() else len(line), _LONG_LINE):
                part = line[at : at + _LONG_LINE]
                if not part.isascii():
                    lines.append(part)
                    length += len(part) + 1
        if length > _MOST_LATIN_BYTES:
            break
    return b"\n".join(lines)
