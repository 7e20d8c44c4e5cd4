"""What a value is of: ``300 g`` of oil and ``40 g`` of wax are not ``40 g`` of oil."""

from cloister_gateway.grounding.evidence.quantities import Quantity
from cloister_gateway.grounding.evidence.reading import Reading, Word, same_word
from cloister_gateway.grounding.evidence.words import FUNCTION_WORDS

__all__ = ["measures_another"]

_OF = frozenset({"of", "de", "d"})
_PARTS = frozenset({"of", "von", "der", "davon", "de", "des", "d", "из"})


def measures_another(sentence: Reading, window: Reading) -> bool:
    """Whether the window has, directly before what the sentence measures, only other values of that kind."""
    theirs = _measured(window)
    for value, thing in _measured(sentence):
        if any(value.agrees(other) and _is_a_part(other, window) for other in window.quantities):
            continue
        of_it = [
            other
            for other, noun in theirs
            if (other.kind, other.unit) == (value.kind, value.unit) and same_word(thing.folded, noun.folded)
        ]
        if of_it and not any(value.agrees(other) for other in of_it):
            return True
    return False


def _is_a_part(value: Quantity, text: Reading) -> bool:
    """``Two of its nine members`` are two members."""
    return next((word.folded for word in text.words if word.start >= value.end), None) in _PARTS


def _measured(text: Reading) -> list[tuple[Quantity, Word]]:
    """The numbers of a text that have a word for what is measured directly behind them."""
    found = []
    for value in text.quantities:
        behind = [word for word in text.words if word.start >= value.end][:2]
        if behind and behind[0].folded in _OF:
            behind = behind[1:]
        word = behind[0] if behind else None
        if value.kind != "number" or word is None or word.folded in FUNCTION_WORDS:
            continue
        between = text.text[value.end : word.start]
        if not any(sign in between for sign in ".,;:|()"):
            found.append((value, word))
    return found
