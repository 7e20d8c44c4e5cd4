"""Whether a passage supports a sentence, and with which of its words.

A sentence that only sounds like a passage has nearly the same vector: similarity cannot tell ``ISO 46`` from
``ISO 32``. So what can be told apart by its form must agree: values (`cloister_gateway.grounding.evidence.quantities`),
names, and what `cloister_gateway.grounding.evidence.contradiction` looks at. The rest, which can be said in other
words, must be there in part.

Evidence is looked for in one to three sentences of the passage that stand together; its file name and headings may tell
what it is about. This is no proof: a false sentence of which every word stands in the evidence may pass, where only its
grammar is another.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from cloister_gateway.grounding.evidence.classes import class_of
from cloister_gateway.grounding.evidence.contradiction import contradicts
from cloister_gateway.grounding.evidence.quantities import Quantity
from cloister_gateway.grounding.evidence.reading import Anchor, Reading, Word, same_name, same_word
from cloister_gateway.grounding.evidence.sentences import sentences
from cloister_gateway.grounding.evidence.tables import is_row, read_rows
from cloister_gateway.grounding.evidence.words import FUNCTION_WORDS

__all__ = ["Evidence", "Support"]

_MOST_SENTENCES = 3
"""That stand together, and support one."""
_LEAST_SHARE = 0.15
"""Of what a sentence says; where the evidence has less of it in the same words, nothing can be compared."""


class Evidence(NamedTuple):
    """Words of a passage that may support a sentence.

    Attributes:
        quote: They, as they stand there.
        share: How much of what the sentence says has the same words there, from 0 to 1.
    """

    quote: str
    share: float


class Support:
    """One passage, against which sentences are held.

    Args:
        text: Of the passage.
        about: Its file name and headings.
    """

    def __init__(self, text: str, about: str = "") -> None:
        self._text = text
        self._whole = Reading(text)
        language = self._whole.own_language
        self._about = Reading(about.replace("_", " ").replace("-", " "), language)
        self._spans = sentences(text)
        lines = [text[start:end] for start, end in self._spans]
        self._sentences = [Reading(line, language) for line in read_rows(lines)]
        self._rows = _joined(1 << place for place, line in enumerate(lines) if is_row(line))
        self._windows: dict[tuple[int, int], Reading] = {}
        self._places: dict[str, int] = {}
        """In which sentences a word is, as bits."""
        self._names_only: set[str] = set()
        """The words that stand as names, and nowhere as anything else."""
        others: set[str] = set()
        for place, sentence in enumerate(self._sentences):
            for word in sentence.words:
                self._places[word.folded] = self._places.get(word.folded, 0) | 1 << place
                as_name = word.is_capital and (_is_second_name(word) if language == "de" else not word.first)
                (self._names_only if as_name else others).add(word.folded)
        self._names_only -= others

    def evidence(self, sentence: Reading) -> Evidence | None:
        """Where the passage supports the sentence best; None if it does not, as far as forms tell."""
        values = [self._agreeing(value) for value in sentence.quantities]
        if any(not have and value.kind != "code" for value, have in zip(sentence.quantities, values, strict=True)):
            return None
        words = [self._having(word) for word in sentence.content]
        table = _Table(words, [self._about.has(word) for word in sentence.content], values)
        if not self._names(sentence, table):
            return None
        size = len(self._sentences)
        ranges = [
            (at, at + many)
            for many in range(1, _MOST_SENTENCES + 1)
            for at in range(size - many + 1)
            if many == 1 or (self._rows & _bits((at, at + many))).bit_count() < 2
        ]
        ranked = sorted(
            ((table.share(one), one) for one in ranges), key=lambda ranked: (-ranked[0], ranked[1][1] - ranked[1][0])
        )
        if not ranked or ranked[0][0] < _LEAST_SHARE or self._belong_elsewhere(sentence, table):
            return None
        for share, one in ranked:
            if share < _LEAST_SHARE:
                break
            # What says the opposite and is nearer outweighs what only does not speak of it.
            if contradicts(sentence, self._window(one)):
                if one[1] - one[0] == 1:
                    return None
            elif self._values(sentence, one, table) and not self._of_another_row(one, table):
                return Evidence(self._text[self._spans[one[0]][0] : self._spans[one[1] - 1][1]].strip(), share)
        return None

    def _window(self, place: tuple[int, int]) -> Reading:
        if place[1] - place[0] == 1:
            return self._sentences[place[0]]
        if place not in self._windows:
            text = self._text[self._spans[place[0]][0] : self._spans[place[1] - 1][1]]
            self._windows[place] = Reading(text, self._whole.own_language)
        return self._windows[place]

    def _having(self, word: Word) -> int:
        return _joined(places for other, places in self._places.items() if same_word(word.folded, other))

    def _agreeing(self, value: Quantity) -> int:
        return _joined(
            1 << place
            for place, sentence in enumerate(self._sentences)
            if any(value.agrees(other) for other in sentence.quantities)
        )

    def _names(self, sentence: Reading, table: "_Table") -> bool:
        """Whether the passage has the names of the sentence. In German every noun is written as a name."""
        for word, have, about in zip(sentence.content, table.words, table.about, strict=True):
            if not word.is_capital or class_of(word.folded) is not None or about:
                continue
            if any(same_name(word.folded, other) for other in self._places):
                continue
            if sentence.own_language == "de" and not _is_second_name(word):
                continue
            # ``Ramanathan`` is no form of ``Raman``, as ``fillers`` is of ``filling``.
            if have and all(name in self._names_only for name in self._places if same_word(word.folded, name)):
                return False
            if not have and not word.first and sentence.own_language != "de":
                return False
        return True

    def _belong_elsewhere(self, sentence: Reading, table: "_Table") -> bool:
        """Whether a value or name of the sentence stands where less of the sentence stands than with another of its
        kind: ``The KX-200 takes ISO 46``, where the KX-200 takes ISO 32 and the KX-350 ISO 46."""
        for anchor in sentence.anchors:
            mine = table.of(anchor, sentence)
            shared = [table.shared(place, but=anchor, sentence=sentence) for place in range(len(self._sentences))]
            here = [many for place, many in enumerate(shared) if mine >> place & 1]
            if here and any(
                many > max(here)
                and not mine >> place & 1
                and self._sentences[place].rival(anchor, sentence) is not None
                for place, many in enumerate(shared)
            ):
                return True
        return False

    def _of_another_row(self, place: tuple[int, int], table: "_Table") -> bool:
        """Whether something of the sentence stands in other rows of a table, and not in that of the evidence."""
        bits = _bits(place)
        others = self._rows & ~bits
        return bool(self._rows & bits) and any(have & others and not have & bits for have in table.words)

    def _values(self, sentence: Reading, place: tuple[int, int], table: "_Table") -> bool:
        """Whether the sentences from the first place to the last have the values; a code may be what all is about."""
        window = self._window(place)
        bits = _bits(place)
        for value, places in zip(sentence.quantities, table.values, strict=True):
            if not places & bits:
                rivals = any(other.kind == "code" for other in window.quantities)
                elsewhere = places or any(value.agrees(other) for other in self._about.quantities)
                if value.kind != "code" or rivals or not elsewhere:
                    return False
            elif value.kind == "date" and not self._year(value, window):
                return False
        return True

    def _year(self, value: Quantity, window: Reading) -> bool:
        """Whether the year of a date is the passage's, where the date there has none."""
        years = {date[0] for date in value.values if isinstance(date, tuple)}
        if None in years:
            return True
        theirs = [other for other in window.quantities if value.agrees(other)]
        if any(isinstance(date, tuple) and date[0] in years for other in theirs for date in other.values):
            return True
        said = re.findall(r"\b\d{4}\b", f"{self._text} {self._about.text}")
        return any(str(year) in said for year in years)


class _Table(NamedTuple):
    """What of a sentence is in which sentences of a passage, as bits.

    Attributes:
        words: For each word of its content.
        about: For each of them, whether file name and headings have it.
        values: For each value.
    """

    words: list[int]
    about: list[bool]
    values: list[int]

    def share(self, place: tuple[int, int]) -> float:
        """How much of the sentence stands there; what only file name and headings have counts half."""
        bits = _bits(place)
        words = sum(1.0 if have & bits else 0.5 * about for have, about in zip(self.words, self.about, strict=True))
        whole = len(self.words) + len(self.values)
        return (words + sum(1 for have in self.values if have & bits)) / whole if whole else 0.0

    def shared(self, place: int, *, but: Anchor, sentence: Reading) -> int:
        """How much of the sentence one sentence of the passage has, ``but`` for an anchor."""
        words = sum(
            have >> place & 1 for word, have in zip(sentence.content, self.words, strict=True) if word is not but.name
        )
        return words + sum(
            have >> place & 1
            for value, have in zip(sentence.quantities, self.values, strict=True)
            if value is not but.value
        )

    def of(self, anchor: Anchor, sentence: Reading) -> int:
        """Where an anchor of the sentence is."""
        if anchor.value is not None:
            return self.values[sentence.quantities.index(anchor.value)]
        return next((have for word, have in zip(sentence.content, self.words, strict=True) if word is anchor.name), 0)


def _is_second_name(word: Word) -> bool:
    """Whether a word is a name behind another one, as surnames are."""
    return word.is_capital and word.follows_capital and word.after not in FUNCTION_WORDS


def _bits(place: tuple[int, int]) -> int:
    return (1 << place[1]) - (1 << place[0])


def _joined(places: Iterable[int]) -> int:
    bits = 0
    for one in places:
        bits |= one
    return bits
