"""Whether a passage says something else than a sentence whose words it has.

What is looked at has a form: another member of a closed class, an opposite, one negation more, a name where another
stands, two things turned round, and what belongs to something else. All of it errs on the side of no citation.
"""

from collections import Counter
from itertools import combinations, pairwise, takewhile

from cloister_gateway.grounding.evidence.classes import class_of
from cloister_gateway.grounding.evidence.measuring import measures_another
from cloister_gateway.grounding.evidence.quantities import Quantity
from cloister_gateway.grounding.evidence.reading import Anchor, Reading, Word, same_word
from cloister_gateway.grounding.evidence.words import (
    BEFORE_NAMES,
    DETERMINERS,
    FUNCTION_WORDS,
    RELATORS,
    words_of,
)

__all__ = ["contradicts"]

_JOINING = frozenset({"and", "or", "und", "oder", "et", "ou", "и", "или", ",", "|", ":", "-", "&"})
_OWN = 0.3
"""What a word that only the clause has takes off: of two clauses with as much of the sentence, it is about the one that
has little else."""
_OF_VERBS = frozenset({"on", "upon", "with", "at", "for", "to", "in", "of", "sur", "avec", "pour", "dans"})
_MOST_MIDDLES = 4
_OF_PLACES = words_of(
    "in im an am auf bei beim mit für aus ab seit um über unter während at on with for during since under over dans "
    "sur avec pour chez depuis в на у при с для"
)
_PASSIVE = frozenset({"by", "von", "durch", "par"})


def contradicts(sentence: Reading, window: Reading) -> bool:
    """Whether some sentences of a passage, together, say something else than ``sentence``."""
    return (
        _excluded(sentence, window)
        or _negated(sentence, window)
        or _exchanged(sentence, window)
        or _turned(sentence, window)
        or _reversed(sentence, window)
        or measures_another(sentence, window)
        or any(_crossed(sentence, one) or _swapped(sentence, one) for one in window.sentences)
    )


def _excluded(sentence: Reading, window: Reading) -> bool:
    """Whether the window has another member of a closed class where the sentence has one."""
    for name, members in sentence.classes.items():
        theirs = window.classes.get(name, set())
        if _said_otherwise(name, window):
            continue
        if theirs and not members <= theirs and not theirs <= members:
            return True
    return False


def _said_otherwise(name: str, window: Reading) -> bool:
    """Whether words of a class may mean the same: "open from 7 to 8" says when it closes."""
    return name == "opening" and sum(value.kind == "time" for value in window.quantities) > 1


def _negated(sentence: Reading, window: Reading) -> bool:
    """Whether one of both says no, and the other does not, of the same: as a whole, or in one of its clauses."""
    if _denies(sentence, window):
        parts = [clause for clause in sentence.clauses if clause.content]
        if len(parts) < 2 or any(_denies(part, window) for part in parts):
            return True
    lacking = [word.folded for word in sentence.lacking]
    theirs = [word.folded for word in window.lacking]
    return any(
        window.has(word) and not any(same_word(word.folded, one) for one in theirs) for word in sentence.lacking
    ) or (
        any(sentence.has(word) and not any(same_word(word.folded, one) for one in lacking) for word in window.lacking)
    )


def _denies(sentence: Reading, window: Reading) -> bool:
    """Whether the clause of the window that is about the same says no where the sentence does not, or turned round."""

    def shared(clause: Reading) -> float:
        values = sum(
            2 * any(value.agrees(other) for other in clause.quantities)
            for value in sentence.quantities
            if value.kind != "code"
        )
        own = sum(not sentence.has(word) for word in clause.content)
        return values + sum(clause.has(word) for word in sentence.content) - own * _OWN

    nearest = max(window.clauses, key=shared, default=window)
    for anchor in reversed(sentence.anchors):
        # What is said last is what is said: a clause that alone has it is the one.
        holders = [clause for clause in window.clauses if clause.holds(anchor)]
        if len(holders) == 1:
            nearest = holders[0]
            break
    return sentence.negations % 2 != nearest.negations % 2


def _exchanged(sentence: Reading, window: Reading) -> bool:
    """Whether a name of the sentence stands where the window has another, or a word of a class where it has another of
    that class."""
    for word in sentence.content:
        if not _may_be_name(word) or window.has(word):
            continue
        for other in window.content:
            if not _may_be_name(other) or sentence.has(other):
                continue
            left = word.after == other.after
            right = word.before is not None and other.before is not None and same_word(word.before, other.before)
            if left and (right or (word.after is not None and word.after not in _JOINING)):
                return True
    return any(_displaced(sentence, window, beside) for beside in (-1, 1))


def _displaced(sentence: Reading, window: Reading, beside: int) -> bool:
    """Whether next to a word of the sentence one of a class stands, and next to it in the window only others of it."""
    mine, theirs = (
        [
            (one, known, text.content[place + beside])
            for place, one in enumerate(text.content)
            if (known := class_of(one.folded)) is not None and 0 <= place + beside < len(text.content)
        ]
        for text in (sentence, window)
    )
    for _, (name, member), neighbour in mine:
        there = {
            known[1]
            for _, known, other in theirs
            if known[0] == name
            and not _said_otherwise(name, window)
            and same_word(neighbour.folded, other.folded)
            and class_of(other.folded) is None
        }
        if there and member not in there:
            return True
    return False


def _may_be_name(word: Word) -> bool:
    if not word.is_capital:
        return False
    return word.after is None or word.after in BEFORE_NAMES or word.follows_capital


def _turned(sentence: Reading, window: Reading) -> bool:
    """Whether two things stand in another order around a word that says which is which."""
    counts = Counter(word.folded for word in sentence.words)
    theirs_too = Counter(word.folded for word in window.words)
    for middle in sentence.words:
        if counts[middle.folded] > 1 or not 0 < theirs_too[middle.folded] <= _MOST_MIDDLES:
            continue  # What is said again and again orders nothing.
        relates = middle.folded in RELATORS
        if not relates and (middle.is_capital or middle.folded in FUNCTION_WORDS):
            continue
        for theirs in (word for word in window.words if word.folded == middle.folded):
            if (
                not relates
                and sentence.own_language in {"en", "fr"}
                and _done_by_another(sentence, middle, window, theirs)
            ):
                return True
            if (middle.before in _PASSIVE) != (theirs.before in _PASSIVE):
                continue
            before, after = _around(sentence, middle, names=not relates)
            their_before, their_after = _around(window, theirs, names=False)
            if not relates:
                before = [word for word in before if not _moves(word, window)]
                after = [word for word in after if not _moves(word, window)]
            if _meet(before[-1:], their_after[:2]) and _meet(after[:1], their_before[-2:]):
                free = sentence.own_language == "de" and not relates
                if not free or not (_of_a_person(before[-1], after[0]) or _of_a_person(after[0], before[-1])):
                    return True
            if (
                not relates
                and sentence.own_language in {"en", "fr"}
                and _subject_is_object(sentence, middle, window, theirs)
            ):
                return True
    return False


def _around(text: Reading, middle: Word, *, names: bool) -> tuple[list[Word], list[Word]]:
    words = [word for word in text.content if word.is_capital or not names]
    return [word for word in words if word.end <= middle.start], [word for word in words if word.start >= middle.end]


def _moves(word: Word, window: Reading) -> bool:
    """Whether a word may stand before the verb or behind it: no noun (``Werktags fährt``), or behind the same word of
    the grammar in both (``In Gruppe A sank``)."""
    forms = [other for other in window.words if same_word(word.folded, other.folded)]
    if word.first and any(not other.is_capital for other in forms):
        return True
    return word.after in _OF_PLACES and any(other.after == word.after for other in forms)


def _of_a_person(one: Word, other: Word) -> bool:
    """Whether one of two nouns is a name of two words, and the other has an article: who does what to which shows in
    German from more than their order."""
    return one.follows_capital and one.after not in DETERMINERS and other.after in DETERMINERS


def _meet(some: list[Word], others: list[Word]) -> bool:
    return any(same_word(one.folded, other.folded) for one in some for other in others)


def _subject_is_object(sentence: Reading, verb: Word, window: Reading, theirs: Word) -> bool:
    """Whether what stands directly before a verb stands behind it in the window, where the verb has another subject."""
    subject = next((word for word in reversed(sentence.words) if word.end <= verb.start), None)
    if subject is None or subject.folded in FUNCTION_WORDS or verb.after != subject.folded:
        return False
    if theirs.after is None or not theirs.after[0].isalpha() or theirs.after in DETERMINERS or theirs.after in _PASSIVE:
        return False
    behind = [word for word in window.words if word.start >= theirs.end]
    function = list(takewhile(lambda word: word.folded in DETERMINERS or word.folded in _OF_VERBS, behind))[:2]
    object_ = behind[len(function) :][:1]
    names = list(takewhile(lambda word: word.is_capital, behind[len(function) :]))
    before = [word for word in window.words if word.end <= theirs.start]
    return _meet([subject], names or object_) and not _meet([subject], before[-3:])


def _done_by_another(sentence: Reading, verb: Word, window: Reading, theirs: Word) -> bool:
    """Whether the same verb has one name for who does it here, and another there."""
    names = {word.folded for text in (sentence, window) for word in text.words if word.is_capital and not word.first}
    mine, other = _doer(sentence, verb, names), _doer(window, theirs, names)
    return bool(mine and other) and not _meet(mine, other)


def _doer(text: Reading, verb: Word, names: set[str]) -> list[Word]:
    """The name directly before a verb, or behind its ``by``. At a sentence's beginning all words have a capital: there
    a name is what is known to be one, from elsewhere."""
    if verb.before in _PASSIVE:
        behind = [word for word in text.words if word.start >= verb.end and word.folded not in DETERMINERS]
        return list(takewhile(lambda word: word.is_capital, behind[1:]))
    before = [word for word in text.words if word.end <= verb.start]
    if not before or before[-1].folded != verb.after:
        return []
    return list(takewhile(lambda word: word.is_capital and word.folded in names, reversed(before)))


def _reversed(sentence: Reading, window: Reading) -> bool:
    """Whether two values stand the other way round: ``from 45 to 30``, ``AX-9 replaces AX-7``."""
    theirs = _pairs(window)
    for one, other, between in _pairs(sentence):
        if not between or all(word.folded in _JOINING for word in between):
            continue  # ``3 and 5`` are ``5 and 3``.
        turned = [words for first, last, words in theirs if one.agrees(last) and other.agrees(first)]
        same = any(one.agrees(first) and other.agrees(last) for first, last, _ in theirs)
        if same or not turned:
            continue
        if all(word.folded in FUNCTION_WORDS for word in between) or (
            one.kind == "code" and any(_relate(between, words) for words in turned)
        ):
            return True
    return False


def _relate(some: list[Word], others: list[Word]) -> bool:
    """Whether the words between two things say the same of them, from the first to the second."""
    if any(word.folded in _PASSIVE for word in some) != any(word.folded in _PASSIVE for word in others):
        return False
    telling = [word for word in some if word.folded in RELATORS or word.folded not in FUNCTION_WORDS]
    return _meet(telling, others)


def _pairs(text: Reading) -> list[tuple[Quantity, Quantity, list[Word]]]:
    """Values of one kind that follow each other, and the words between."""
    return [
        (one, other, [word for word in text.words if one.end <= word.start < other.start])
        for one, other in pairwise(text.quantities)
        if one.kind == other.kind
    ]


def _crossed(sentence: Reading, window: Reading) -> bool:
    """Whether a value or name of the sentence stands in one clause, and what it is said of in another, with a value or
    name of its own: ``The warranty covers the motor for two years``, where it is ten, and two for all else."""
    clauses = window.clauses
    first = [word for word in sentence.content[:1] if word.first and word.is_capital]
    names = [word.folded for word in window.content if word.is_capital and not word.first]
    known = [Anchor(word.start, None, word) for word in first if word.folded in names]
    for anchor in (*known, *sentence.anchors):
        here = [clause for clause in clauses if clause.holds(anchor)]
        if not here:
            continue
        for word in sentence.content:
            if word is anchor.name or any(clause.has(word) for clause in here):
                continue
            there = [clause for clause in clauses if clause.has(word)]
            if there and all(
                any(_is_said_of(word, clause, anchor, mine, sentence, window) for mine in here) for clause in there
            ):
                return True
    return False


def _swapped(sentence: Reading, window: Reading) -> bool:
    """Whether two values or names of the sentence stand in two clauses, each beside another one in the other's place:
    ``In group B it fell by 8``, where it fell by 8 in group A and by 2 in group B."""
    for one, other in combinations(sentence.anchors, 2):
        here = [clause for clause in window.clauses if clause.holds(one)]
        there = [clause for clause in window.clauses if clause.holds(other)]
        if (
            here
            and there
            and not any(clause in there for clause in here)
            and all(clause.rival(other, sentence, is_clause=True) is not None for clause in here)
            and all(clause.rival(one, sentence, is_clause=True) is not None for clause in there)
        ):
            return True
    return False


def _is_said_of(word: Word, clause: Reading, anchor: Anchor, mine: Reading, sentence: Reading, window: Reading) -> bool:
    """Whether ``clause`` says of ``word`` its own value, as ``mine`` says the anchor of something else.

    Both clauses are laid side by side by their values, and by the words that they share. What has no counterpart is
    said of both: ``Pressure fell by 8 in one group and by 2 in the other``.
    """
    rival = clause.rival(anchor, sentence, is_clause=True)
    if rival is None:
        return False
    clauses = window.clauses
    own = mine.place_of(anchor)
    where = next(one for one in clause.content if same_word(one.folded, word.folded))
    if where.start < rival.start and clauses.index(clause) > clauses.index(mine):
        return True  # Of what comes later, only what follows its value may be said of what came before.
    if where.start > rival.start:
        there = [one for one in clause.content if one.start > rival.start]
        here = [one for one in mine.content if one.start > own]
    else:
        # From the value outwards.
        there = [one for one in reversed(clause.content) if one.start < rival.start]
        here = [one for one in reversed(mine.content) if one.start < own]
    return any(not sentence.has(one) for one in _counterparts(where, there, here))


def _counterparts(word: Word, there: list[Word], here: list[Word]) -> list[Word]:
    """What of ``here`` stands in the place of ``word``, one of ``there``: both from the value outwards."""
    inside = there[: there.index(word)]
    fixed = [one for one in inside if _meet([one], here)]
    rest = here
    if fixed:
        place = max(place for place, one in enumerate(here) if same_word(one.folded, fixed[-1].folded))
        rest = here[place + 1 :]
    between = list(takewhile(lambda one: not _meet([one], there), rest))
    start = there.index(fixed[-1]) + 1 if fixed else 0
    offset = there.index(word) - start
    whole = list(takewhile(lambda one: not _meet([one], here), there[start:]))
    if len(whole) < len(between):
        return between
    return between[offset : offset + 1]
