"""Words of the grammar, in English, German, French and Russian: they tell languages apart, say no, and join names.

Words are without case and accents here, as `fold` makes them.
"""

import unicodedata
from functools import lru_cache

__all__ = [
    "APPROXIMATE",
    "BEFORE_NAMES",
    "COMPARATIVES",
    "DETERMINERS",
    "FUNCTION_WORDS",
    "LESS",
    "PRIVATIVES",
    "RELATORS",
    "THAN",
    "fold",
    "language_of",
    "says_no",
    "words_of",
]


@lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """Without case, accents and ligatures; Russian keeps its letters, but for ё."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    plain = "".join(one for one in unicodedata.normalize("NFD", text) if not unicodedata.combining(one))
    return unicodedata.normalize("NFC", plain)


def words_of(text: str) -> frozenset[str]:
    return frozenset(fold(word) for word in text.split())


_LANGUAGES = {
    "en": words_of(
        "a an the and or but of in on at to from by for with without as is are was were be been being has have had do "
        "does did can could may might must shall should will would not no it its this that these those he she they we "
        "you i his her their our your my there which who whom whose what when where how than then so if into over "
        "under after before between during up out about each every all any some such only own same too very also both "
        "more most other per via them him us me get gets got just well"
    ),
    "de": words_of(
        "der die das den dem des ein eine einen einem einer eines und oder aber von vom in im an am auf zu zum zur aus "
        "bei beim mit ohne nach vor über unter für durch gegen um als wie ist sind war waren wird werden wurde wurden "
        "sein hat haben hatte kann können darf dürfen muss müssen soll sollen will nicht kein keine er sie es wir ihr "
        "ich man sich dies dieser diese dieses diesem diesen jeder jede jedes jeden alle auch nur noch schon so dass "
        "wenn weil ob da dort hier bis seit pro je etwa zwischen während gibt geben sowie"
    ),
    "fr": words_of(
        "le la les l un une des du de d et ou mais dans en sur à au aux par pour avec sans sous chez est sont était "
        "étaient être été a ont avait peut peuvent doit doivent ne pas ni que qui quoi dont où ce cet cette ces il "
        "elle ils elles on nous vous je tu se son sa ses leur leurs notre votre mon ma mes plus moins très aussi "
        "tout tous toute toutes entre vers depuis"
    ),
    "ru": words_of(
        "и или но а в во на с со у к ко о об от до из за по под при для без над через между не ни нет это этот эта эти "
        "тот та те он она оно они мы вы я ты его её их наш ваш мой что как так где когда кто который которая которые "
        "быть был была было были есть будет может могут можно нужно должен должна только также уже ещё все всё каждый"
    ),
}
FUNCTION_WORDS = frozenset().union(*_LANGUAGES.values())
DETERMINERS = words_of(
    "the a an this that these those his her its their our your my each every all any some no both der die das den dem "
    "des ein eine einen einem einer eines kein keine keinen keinem dies dieser diese dieses diesem diesen jeder jede "
    "jedes jeden alle ihr ihre ihrem ihren sein seine seinem seinen unser unsere im am zum zur vom beim ins le la les "
    "l un une des du ce cet cette ces son sa ses leur leurs au aux"
)


def language_of(folded: list[str]) -> str | None:
    """The language whose function words are most among ``folded``; None if that is not clear."""
    counts = sorted(((sum(word in known for word in folded), name) for name, known in _LANGUAGES.items()), reverse=True)
    return counts[0][1] if counts[0][0] > counts[1][0] else None


APPROXIMATE = words_of(
    "about approximately around roughly nearly almost circa ca rund etwa ungefähr knapp environ около примерно"
)

_NEGATIONS = words_of(
    "not no never none nobody nothing neither nor cannot can't don't doesn't didn't isn't aren't wasn't weren't "
    "won't mustn't shouldn't unable forbidden prohibited banned disallowed denied impossible excludes excluded "
    "excluding lacks refuses refused rejected unavailable invalid illegal ineligible missing absent drops dropped "
    "prohibits forbids "
    "nicht kein keine keinen keinem keiner keines nie niemals niemand nichts weder verboten untersagt unmöglich "
    "unzulässig ausgeschlossen abgelehnt verweigert ungültig "
    "pas jamais aucun aucune rien interdit interdite interdits interdites impossible ni exclu exclus "
    "не нет ни никогда никто ничего нельзя запрещено запрещён запрещена запрещены невозможно"
)
"""A sentence with one of them, or with three, says no."""
_NEGATIVE = (
    "discontinu", "cancel", "abolish", "remov", "prohibit", "exclu", "entfern", "entfall", "abgeschafft", "gestrichen",
    "supprim", "annul", "interdi", "запрещ", "отмен", "исключ",
)  # fmt: skip
PRIVATIVES = words_of("without ohne sans без")
"""They say no of what follows, and not of the whole sentence."""
COMPARATIVES = words_of(
    "more less later earlier fewer longer older higher lower greater mehr weniger später früher länger älter höher "
    "plus moins больше меньше позже раньше более менее"
)
LESS = words_of("less fewer lower earlier weniger früher moins меньше менее раньше")
THAN = words_of("than als que чем")
"""``No more than`` is a bound, not a negation."""
BEFORE_NAMES = words_of(
    "in aus nach bei von vom mit durch für an auf über gegen herr herrn frau dr prof firma ist sind war waren heißt "
    "und oder wird wurde"
)
"""In German, what may stand directly before a name."""
RELATORS = words_of(
    "before after than above below over under from to into behind precedes follows vor nach als über unter hinter "
    "avant après que до после чем перед за"
)
"""Between two things they say which is which: exchanged, the sentence says the opposite."""


@lru_cache(maxsize=16384)
def says_no(folded: str) -> bool:
    """Whether a word turns what a sentence says into its opposite."""
    return folded in _NEGATIONS or folded.endswith("n't") or folded.startswith(_NEGATIVE)
