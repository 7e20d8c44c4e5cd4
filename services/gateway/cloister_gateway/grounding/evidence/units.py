"""What numbers are made of, in English, German, French and Russian: words with a value, units, currencies, months."""

import re
from decimal import Decimal
from functools import lru_cache

from cloister_gateway.grounding.evidence.words import fold, words_of

__all__ = ["CURRENCIES", "HALVES", "MONTHS", "MULTIPLIERS", "UNITS", "number_word"]


def _numbered(values: dict[int, str]) -> dict[str, int]:
    return {fold(word): value for value, words in values.items() for word in words.split()}


_NUMBER_WORDS = _numbered(
    {
        0: "zero null zéro ноль",
        1: "one eins un один одна одно",
        2: "two zwei deux два две двух двум двумя zwo twice zweimal дважды",
        3: "three drei trois три трёх трём",
        4: "four vier quatre четыре четырёх",
        5: "five fünf cinq пять пяти",
        6: "six sechs шесть шести",
        7: "seven sieben sept семь семи",
        8: "eight acht huit восемь восьми",
        9: "nine neun neuf девять девяти",
        10: "ten zehn dix десять десяти",
        11: "eleven elf onze одиннадцать одиннадцати",
        12: "twelve zwölf douze двенадцать двенадцати dozen dutzend douzaine",
        13: "thirteen dreizehn treize тринадцать",
        14: "fourteen vierzehn quatorze четырнадцать",
        15: "fifteen fünfzehn quinze пятнадцать",
        16: "sixteen sechzehn seize шестнадцать",
        17: "seventeen siebzehn dix-sept семнадцать",
        18: "eighteen achtzehn dix-huit восемнадцать",
        19: "nineteen neunzehn dix-neuf девятнадцать",
        20: "twenty zwanzig vingt двадцать",
        30: "thirty dreißig trente тридцать",
        40: "forty vierzig quarante сорок",
        50: "fifty fünfzig cinquante пятьдесят",
        60: "sixty sechzig soixante шестьдесят",
        70: "seventy siebzig семьдесят",
        80: "eighty achtzig quatre-vingts восемьдесят",
        90: "ninety neunzig девяносто",
        100: "hundred hundert einhundert cent сто",
        1000: "thousand tausend eintausend mille тысяча",
    }
)
HALVES = words_of("half halb halbe halbes halben demi пол")
MULTIPLIERS = {
    fold(word): Decimal(value)
    for value, words in (
        (100, "hundred hundert"),
        (1_000, "thousand tausend mille тысяч тысячи тыс k tsd"),
        (10**6, "million millions millionen mio mn million(s) миллион миллиона миллионов млн"),
        (10**9, "billion billions milliarde milliarden mrd bn milliard milliards миллиард миллиарда миллиардов млрд"),
    )
    for word in words.split()
}
_GERMAN = re.compile(
    r"(?:(?P<ones>\w+?)und)?(?P<tens>zwanzig|dreissig|vierzig|funfzig|sechzig|siebzig|achtzig|neunzig)"
)


@lru_cache(maxsize=4096)
def number_word(folded: str) -> int | None:
    """The value of a number in one word: ``nineteen``, ``twenty-five``, ``fünfundzwanzig``, ``zweihundert``."""
    if folded in _NUMBER_WORDS:
        return _NUMBER_WORDS[folded]
    if folded in HALVES:
        return 0
    if "-" in folded:
        parts = [_NUMBER_WORDS.get(part) for part in folded.split("-") if part not in {"et", "and"}]
        return sum(part or 0 for part in parts) if None not in parts else None
    german = _GERMAN.fullmatch(folded)
    if german:
        ones = 1 if german["ones"] == "ein" else _NUMBER_WORDS.get(german["ones"] or "null")
        return None if ones is None else ones + _NUMBER_WORDS[german["tens"]]
    for word, value in (("tausend", 1000), ("hundert", 100)):
        before, found, after = folded.partition(word)
        if found:
            factor = 1 if before in {"", "ein"} else number_word(before)
            rest = 0 if not after else number_word(after.removeprefix("und"))
            return None if factor is None or rest is None else factor * value + rest
    return None


def _measures() -> dict[str, tuple[str, Decimal]]:
    table = {
        "time": {
            "0.000001": "µs microsecond microseconds mikrosekunde mikrosekunden",
            "0.001": "ms millisecond milliseconds millisekunde millisekunden",
            "1": "s sec second seconds sekunde sekunden sek seconde secondes секунда секунды секунд",
            "60": "min minute minutes minuten минута минуты минут мин",
            "3600": "h hr hrs hour hours stunde stunden std heure heures час часа часов",
            "86400": "d day days tag tage tagen jour jours день дня дней сутки суток",
            "604800": "week weeks woche wochen semaine semaines неделя недели недель",
        },
        "months": {
            "1": "month months monat monate monaten mois месяц месяца месяцев",
            "3": "quarter quarters quartal quartale trimestre",
            "12": "year years yr yrs jahr jahre jahren ans année années год года лет",
        },
        "length": {
            "0.000001": "µm micrometre micrometer mikrometer",
            "0.001": "mm millimetre millimetres millimeter millimeters millimètres мм",
            "0.01": "cm centimetre centimetres centimeter centimeters zentimeter centimètres см",
            "1": "m metre metres meter meters metern mètre mètres метр метра метров",
            "1000": "km kilometre kilometres kilometer kilometers kilometern kilomètre kilomètres километр "
            "километров км",
            "0.0254": "inch inches zoll pouces",
            "0.3048": "ft foot feet fuß pieds",
            "1609.344": "mile miles meile meilen",
        },
        "mass": {
            "0.000001": "µg microgram micrograms mikrogramm",
            "0.001": "mg milligram milligrams milligramm мг",
            "1": "g gram grams gramm gramme grammes г грамм граммов",
            "1000": "kg kilo kilos kilogram kilograms kilogramm kilogrammes кг килограмм килограммов",
            "1000000": "t ton tons tonne tonnes tonnen тонна тонн",
            "453.59237": "lb lbs",
        },
        "volume": {
            "0.001": "ml millilitre millilitres milliliter milliliters мл",
            "0.01": "cl",
            "1": "l litre litres liter liters litern литр литра литров",
            "1000": "m³ kubikmeter",
            "3.785411784": "gallon gallons",
        },
        "area": {"1": "m² sqm quadratmeter", "10000": "ha hectare hectares hektar"},
        "data": {
            "1": "b byte bytes",
            "1000": "kb kilobyte kilobytes",
            "1000000": "mb megabyte megabytes",
            "1000000000": "gb gigabyte gigabytes",
            "1000000000000": "tb terabyte terabytes",
            "1024": "kib",
            "1048576": "mib",
            "1073741824": "gib",
        },
        "data rate": {"1": "kbit/s kbps", "1000": "mbit/s mbps", "1000000": "gbit/s gbps"},
        "power": {
            "0.001": "mw milliwatt",
            "1": "w watt watts",
            "1000": "kw kilowatt kilowatts",
            "1000000": "megawatt megawatts",
            "735.49875": "ps",
            "745.7": "hp",
        },
        "energy": {"1": "wh", "1000": "kwh", "1000000": "mwh"},
        "pressure": {
            "0.001": "mbar millibar",
            "1": "bar bars",
            "0.00001": "pa pascal",
            "0.01": "kpa",
            "10": "mpa",
            "0.0689476": "psi",
            "0.00133322": "mmhg",
        },
        "voltage": {"0.001": "mv", "1": "v volt volts", "1000": "kv kilovolt"},
        "current": {"0.000000001": "na", "0.000001": "µa", "0.001": "ma milliampere", "1": "amp amps ampere"},
        "resistance": {"1": "ω ohm ohms", "1000": "kω kohm"},
        "frequency": {"1": "hz hertz", "1000": "khz", "1000000": "mhz", "1000000000": "ghz"},
        "celsius": {"1": "°c celsius"},
        "fahrenheit": {"1": "°f fahrenheit"},
        "kelvin": {"1": "kelvin"},
        "percent": {"1": "% percent prozent процент процента процентов pct", "0.1": "‰ promille"},
        "loudness": {"1": "db decibel dezibel"},
        "torque": {"1": "nm"},
        "speed": {"1": "km/h kmh", "1.609344": "mph"},
    }
    return {
        fold(word): (dimension, Decimal(factor))
        for dimension, units in table.items()
        for factor, words in units.items()
        for word in words.split()
    }


UNITS = _measures()
"""Unit to its dimension, and how much it is in it."""
CURRENCIES = {
    fold(word): code
    for code, words in {
        "EUR": "€ eur euro euros евро cent",
        "USD": "$ usd us$ dollar dollars доллар доллара долларов",
        "GBP": "£ gbp pound pounds sterling pfund livres",
        "CHF": "chf franken francs sfr",
        "RUB": "₽ rub rubel рубль рубля рублей руб roubles",
        "JPY": "¥ jpy yen",
    }.items()
    for word in words.split()
    if word != "cent"
}
MONTHS = _numbered(
    {
        1: "january jan januar janvier январь января январе",
        2: "february feb februar février февраль февраля феврале",
        3: "march mar märz mars март марта марте",
        4: "april apr avril апрель апреля апреле",
        5: "may mai май мая мае",
        6: "june jun juni juin июнь июня июне",
        7: "july jul juli juillet июль июля июле",
        8: "august aug août август августа августе",
        9: "september sept sep septembre сентябрь сентября сентябре",
        10: "october oct oktober okt octobre октябрь октября октябре",
        11: "november nov novembre ноябрь ноября ноябре",
        12: "december dec dezember dez décembre декабрь декабря декабре",
    }
)
