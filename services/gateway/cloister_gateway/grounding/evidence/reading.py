"""A text as it is compared: its words, values, names, clauses and negations, each found once."""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import NamedTuple

from cloister_gateway.grounding.evidence.classes import class_of
from cloister_gateway.grounding.evidence.quantities import Quantity, quantities
from cloister_gateway.grounding.evidence.sentences import sentences
from cloister_gateway.grounding.evidence.spots import Spot, spots
from cloister_gateway.grounding.evidence.words import (
    BEFORE_NAMES,
    COMPARATIVES,
    DETERMINERS,
    FUNCTION_WORDS,
    LESS,
    PRIVATIVES,
    THAN,
    language_of,
    says_no,
)

__all__ = ["Anchor", "Reading", "Word", "same_name", "same_word"]

_CLAUSE_END = re.compile(
    r"(?<=[.!?])\s+|[,;:|\n]|\s[–—-]\s|\b(?:and|but|while|whereas|und|aber|während|sondern|et|mais|tandis|и|а|но)\b",
    re.IGNORECASE,
)
_SUFFIXES = ("'s", "s", "e", "en", "es", "n", "а", "у", "ы", "и", "ой", "ом", "е", "ю", "я", "ей", "ым")
_STEM_SHARE = 0.62
_LEAST_STEM = 4
_PART = 5


class Word(NamedTuple):
    text: str
    folded: str
    start: int
    end: int
    first: bool
    after: str | None
    """The word or sign before it in its sentence, folded."""
    before: str | None
    follows_capital: bool

    @property
    def is_capital(self) -> bool:
        return self.text[:1].isupper()


class Anchor(NamedTuple):
    """A value or a name, with its place."""

    start: int
    value: Quantity | None
    name: Word | None

    def is_like(self, other: "Anchor") -> bool:
        """Whether one could stand for the other: both names, or values of one kind and dimension."""
        if self.value is None or other.value is None:
            return self.value is None and other.value is None
        labels = self.value.label, other.value.label
        if None not in labels and not same_word(str(labels[0]), str(labels[1])):
            return False
        return self.value.kind == other.value.kind and self.value.unit == other.value.unit


@dataclass(frozen=True)
class Reading:
    """A text as it is compared."""

    text: str
    language: str | None = None

    @cached_property
    def spots(self) -> list[Spot]:
        return spots(self.text)

    @cached_property
    def own_language(self) -> str | None:
        """The language it is in; that of the text around it where it does not say."""
        return language_of([spot.folded for spot in self.spots if spot.kind == "word"]) or self.language

    @cached_property
    def quantities(self) -> list[Quantity]:
        return quantities(self.spots, self.own_language)

    @cached_property
    def words(self) -> list[Word]:
        """The words that are no part of a value."""
        taken = self.quantities
        found: list[Word] = []
        for place, spot in enumerate(self.spots):
            if spot.kind != "word" or any(one.start <= spot.start < one.end for one in taken):
                continue
            before = self.spots[place - 1] if place else None
            after = self.spots[place + 1] if place + 1 < len(self.spots) else None
            found.append(
                Word(
                    spot.text,
                    spot.folded,
                    spot.start,
                    spot.end,
                    before is None or before.text in _OPENERS,
                    None if before is None else before.folded,
                    None if after is None else after.folded,
                    before is not None and before.kind == "word" and before.text[:1].isupper() and len(before.text) > 1,
                )
            )
        return found

    @cached_property
    def content(self) -> list[Word]:
        """The words that carry meaning."""
        return [
            word
            for word in self.words
            if word.folded not in FUNCTION_WORDS and not says_no(word.folded) and len(word.folded) > 1
        ]

    @cached_property
    def classes(self) -> dict[str, set[str]]:
        """The members of closed classes that it names, by class."""
        found: dict[str, set[str]] = {}
        for word in self.words:
            known = class_of(word.folded)
            if known is not None and word not in self._bounds:
                found.setdefault(known[0], set()).add(known[1])
        for word in self._bounds[1::3]:
            found.setdefault("bound", set()).add("least" if word.folded in LESS else "most")
        return found

    @cached_property
    def negations(self) -> int:
        """How often it says no. ``ne … pas`` is one, and so is ``никто не``."""
        count = sum(says_no(word.folded) for word in self.words if word not in self._bounds)
        return 1 if self.own_language in {"ru", "fr"} and count == 2 else count

    @cached_property
    def _bounds(self) -> list[Word]:
        """The words of bounds such as ``no more than``."""
        triples = zip(self.words, self.words[1:], self.words[2:], strict=False)
        return [
            word
            for no, more, than in triples
            if says_no(no.folded) and more.folded in COMPARATIVES and than.folded in THAN
            for word in (no, more, than)
        ]

    @cached_property
    def lacking(self) -> list[Word]:
        """The words of which it says that they are not there: behind ``without``."""
        return [
            word
            for place, word in enumerate(self.words)
            if any(other.folded in PRIVATIVES for other in self.words[max(0, place - 3) : place])
            and word.folded not in FUNCTION_WORDS
        ]

    @cached_property
    def sentences(self) -> list["Reading"]:
        """Its sentences; itself if it is one."""
        spans = sentences(self.text)
        return [Reading(self.text[start:end], self.own_language) for start, end in spans] if len(spans) > 1 else [self]

    @cached_property
    def clauses(self) -> list["Reading"]:
        """Its parts between commas and conjunctions."""
        cuts = [
            0,
            *(match.end() for match in _CLAUSE_END.finditer(self.text) if not self._inside(match)),
            len(self.text),
        ]
        parts = [self.text[start:end] for start, end in pairwise(cuts)]
        return [Reading(part, self.own_language) for part in parts if part.strip()]

    @cached_property
    def anchors(self) -> list["Anchor"]:
        """What cannot be exchanged: values and names."""
        values = [Anchor(value.start, value, None) for value in self.quantities]
        names = [Anchor(word.start, None, word) for word in self.words if self._is_name(word)]
        return sorted([*values, *names], key=lambda one: one.start)

    def _is_name(self, word: Word) -> bool:
        """Whether a word is written as a name. German writes all nouns so, but names have no article."""
        if not word.is_capital or word.folded in FUNCTION_WORDS or class_of(word.folded) is not None:
            return False
        if word.first or word.after in DETERMINERS:
            return False
        return self.own_language != "de" or word.after in BEFORE_NAMES or word.follows_capital

    def has(self, word: Word) -> bool:
        """Whether it has the word, in some form."""
        return any(same_word(word.folded, other.folded) for other in self.words)

    def holds(self, anchor: "Anchor") -> bool:
        """Whether it has the value or the name."""
        if anchor.value is not None:
            return any(anchor.value.agrees(other) for other in self.quantities)
        return anchor.name is not None and self.has(anchor.name)

    def place_of(self, anchor: "Anchor") -> int:
        """Where the value or the name that it `holds` begins."""
        if anchor.value is not None:
            return next(other.start for other in self.quantities if anchor.value.agrees(other))
        return next(word.start for word in self.words if anchor.name and same_word(anchor.name.folded, word.folded))

    def rival(self, anchor: "Anchor", sentence: "Reading", *, is_clause: bool = False) -> "Anchor | None":
        """What it has in the place of an anchor that it lacks: of the same kind, and not in the sentence. None where
        it has one of that kind that is in the sentence too. A clause may leave out what the one before has said."""
        alike = [
            other
            for other in self.anchors
            if anchor.is_like(other) or (is_clause and self._is_short_for(other, anchor))
        ]
        if any(sentence.holds(other) for other in alike):
            return None
        if anchor.name is not None:
            # What begins a sentence may be a name as well.
            first = [word for word in self.content[:1] if word.first and word.is_capital and not sentence.has(word)]
            alike += [Anchor(word.start, None, word) for word in first]
        return alike[0] if alike else None

    def _is_short_for(self, other: "Anchor", anchor: "Anchor") -> bool:
        """Whether a bare number at the end has the unit of the clause before: ``A with six months' notice, B with
        twelve``."""
        if anchor.value is None or other.value is None or anchor.value.kind != "number" or anchor.value.unit is None:
            return False
        bare = other.value.kind == "number" and other.value.unit is None and other.value.label is None
        return bare and not any(word.start >= other.value.end for word in self.words)

    def _inside(self, match: re.Match[str]) -> bool:
        return any(one.start < match.end() and match.start() < one.end for one in self.quantities)


_OPENERS = frozenset({".", "!", "?", ":", "|", "\n", "•", "-", "*", "(", '"', "„", "«"})


@lru_cache(maxsize=65536)
def same_word(one: str, other: str) -> bool:
    """Whether two folded words are forms of one, or one is a part of the other, as in German compounds."""
    one, other = _whole(one), _whole(other)
    if one == other:
        return True
    classes = class_of(one), class_of(other)
    if None not in classes and classes[0] != classes[1]:
        return False
    shorter, longer = sorted((one, other), key=len)
    common = 0
    for left, right in zip(shorter, longer, strict=False):
        if left != right:
            break
        common += 1
    if common >= _LEAST_STEM and common >= _STEM_SHARE * len(longer) and common >= len(shorter) - 3:
        return True
    if common >= 3 and common == len(shorter) and len(longer) - common <= 3 and longer[common:] in _ENDINGS:
        return True
    stem = shorter[: max(_PART, len(shorter) - 2)]
    return len(shorter) >= _PART and stem in longer


_SPLIT = re.compile(
    r"(ab|an|auf|aus|bei|durch|ein|fest|frei|her|hin|los|mit|nach|statt|teil|uber|um|unter|vor|weg|weiter|zu|zuruck|"
    r"zusammen)(?:zu|ge)(\w{3,})"
)


def _whole(folded: str) -> str:
    """A German verb in two parts without what stands between them: ``abzurufen`` and ``abgerufen`` are ``abrufen``."""
    split = _SPLIT.fullmatch(folded)
    return folded if split is None else split[1] + split[2]


_ENDINGS = frozenset({"s", "es", "ed", "ing", "en", "er", "e", "n", "t", "st", "te", "'s", "d"})


@lru_cache(maxsize=65536)
def same_name(one: str, other: str) -> bool:
    """Whether two folded names are one: only an ending of a case may differ."""
    if one == other:
        return True
    shorter, longer = sorted((one, other), key=len)
    if longer.startswith(shorter) and longer[len(shorter) :] in _SUFFIXES:
        return True
    # Both have an ending: Ольга, Ольги.
    stem = min(len(one), len(other)) - 1
    cyrillic = "а" <= one[0] <= "я"
    return cyrillic and stem >= 3 and one[:stem] == other[:stem] and max(len(one), len(other)) - stem <= 3
