"""The words of a text and what each is found by: its stem, codes whole and in parts, and pieces of long words.

A word is looked at in lower case, in Unicode's compatibility form. What a sign joins (``BX-40-1172``, ``user_id``,
``E-Mail``) is a word as a whole, however it is joined, and so are its parts. A word of letters is found by its stem
(Snowball's). Pieces of four letters carry what stems do not: the parts of a German compound, an inflection that the
stemmer does not know, a typing mistake. Scripts that put no spaces between words are cut into pairs of characters. A
date is besides found in whatever form it is written (`cloister_retriever.terms.dates`).

Nothing here is keyed. What may be at rest is made of it in `cloister_retriever.terms.weights`.
"""

import functools
import re
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import Stemmer
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from cloister_retriever.terms.dates import dates_of

__all__ = ["Word", "language_of", "words_of"]

_STEMMERS: Mapping[str, str] = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fr": "french",
    "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian",
    "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "nb": "norwegian", "nn": "norwegian", "no": "norwegian",
    "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish",
}  # fmt: skip
"""Snowball's name of a language's stemmer, by the language's code of ISO 639-1."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Thai and Lao, Burmese, Khmer, Japanese and Chinese."""

_MARKS = "\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0b82\u0bbe-\u0bcd"
"""Accents, and vowel signs of Arabic, Hindi and Tamil: parts of a word that ``\\w`` leaves out."""

_SIGNS = "-\u2010\u2011\u2012\u2013./:·'\u2019&+#@"
"""One of these between two letters or digits joins them; two of them part."""

_RUN = re.compile(rf"[{_SIGNS}\w{_MARKS}{_UNSPACED}]+")
_GAP = re.compile(rf"[{_SIGNS}]{{2,}}")
_PART = re.compile(rf"[{_UNSPACED}]+|\d+|(?:(?![{_UNSPACED}])[^\W\d_]|[{_MARKS}])+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")

_PIECE = 4
_LEAST_WITH_PIECES = 5
_YEAR = 4
"""Digits of a date that is a year, and so a number like any."""

_LONGEST = 64
"""Characters of one word that are looked at. What is longer is data."""

_GUESSED_FROM = 4_000
"""Characters of a text that tell its language."""

_SURE = 0.9
"""Of a few codes and names no language can be told."""

_local = threading.local()
"""A stemmer is not safe to share between threads."""


class Word(NamedTuple):
    """One word of a text.

    Attributes:
        terms: What it is found by, one for each language it was stemmed in. Each begins with a letter that says of
            what kind it is: ``s`` a stem, ``c`` a code, ``n`` a number, ``p`` a pair of characters,
            ``d`` a date.
        pieces: Its pieces, in order; they begin with ``g``.
    """

    terms: tuple[str, ...]
    pieces: tuple[str, ...] = ()

    @property
    def is_date(self) -> bool:
        return self.terms[0].startswith("d")


def language_of(text: str) -> str:
    """The code of the language that a text is in, of those with a stemmer; English where that is not sure."""
    language, probability = _identifier().classify(text[:_GUESSED_FROM])
    return str(language) if probability >= _SURE else "en"


def words_of(text: str, languages: Sequence[str]) -> list[Word]:
    """The words of ``text`` in their order, stemmed in each of ``languages``."""
    words: list[Word] = []
    folded = unicodedata.normalize("NFKC", text).casefold()
    for whole in (whole for run in _RUN.findall(folded) for whole in _GAP.split(run)):
        parts = _PART.findall(whole)
        if len(parts) > 1:
            words.append(_whole(parts, languages))
        for part in parts:
            words += _of_part(part[:_LONGEST], languages)
    words += [Word((f"n{date}" if len(date) == _YEAR else f"d{date}",)) for date in dates_of(folded)]
    return words


def _whole(parts: Sequence[str], languages: Sequence[str]) -> Word:
    """What is joined, as one word: "E-Mail" is "email", and BX-40 is the code "bx40"."""
    joined = "".join(parts)[:_LONGEST]
    if joined.isalpha() and not _IS_UNSPACED.search(joined):
        return Word(_stems(joined, languages))
    return Word((f"c{joined}",))


def _of_part(part: str, languages: Sequence[str]) -> Iterator[Word]:
    if part.isdigit():
        yield Word((f"n{part}",))
    elif _IS_UNSPACED.match(part):
        for first in range(max(1, len(part) - 1)):
            yield Word((f"p{part[first : first + 2]}",))
    else:
        pieces = range(len(part) - _PIECE + 1) if len(part) >= _LEAST_WITH_PIECES else range(0)
        yield Word(_stems(part, languages), tuple(f"g{part[first : first + _PIECE]}" for first in pieces))


def _stems(word: str, languages: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"s{_stem(word, language)}" for language in languages or ("",)))


def _stem(word: str, language: str) -> str:
    algorithm = _STEMMERS.get(language)
    if algorithm is None:
        return word
    stemmers: dict[str, Stemmer.Stemmer] = _local.__dict__.setdefault("stemmers", {})
    stemmer = stemmers.get(algorithm)
    if stemmer is None:
        stemmer = stemmers[algorithm] = Stemmer.Stemmer(algorithm)
    return str(stemmer.stemWord(word))


@functools.cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(sorted(set(_STEMMERS) & set(identifier.labels)))
    return identifier
