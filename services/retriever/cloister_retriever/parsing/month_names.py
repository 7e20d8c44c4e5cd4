"""Names of months and days in the languages that number formats ask for, by the low byte of Windows' number of a
language (MS-LCID). What is in another one is shown in English, as if the format had not asked."""

from collections.abc import Sequence

__all__ = ["days_of", "months_of"]

_MONTHS = {
    0x07: "Januar Februar M\u00e4rz April Mai Juni Juli August September Oktober November Dezember",
    0x09: "January February March April May June July August September October November December",
    0x0A: "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    0x0C: "janvier f\u00e9vrier mars avril mai juin juillet ao\u00fbt septembre octobre novembre d\u00e9cembre",
    0x10: "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    0x13: "januari februari maart april mei juni juli augustus september oktober november december",
    0x15: "stycze\u0144 luty marzec kwiecie\u0144 maj czerwiec lipiec sierpie\u0144 wrzesie\u0144 "
    "pa\u017adziernik listopad grudzie\u0144",
    0x16: "janeiro fevereiro mar\u00e7o abril maio junho julho agosto setembro outubro novembro dezembro",
    0x1D: "januari februari mars april maj juni juli augusti september oktober november december",
}
_DAYS = {
    0x07: "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    0x09: "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    0x0A: "lunes martes mi\u00e9rcoles jueves viernes s\u00e1bado domingo",
    0x0C: "lundi mardi mercredi jeudi vendredi samedi dimanche",
    0x10: "luned\u00ec marted\u00ec mercoled\u00ec gioved\u00ec venerd\u00ec sabato domenica",
    0x13: "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
    0x15: "poniedzia\u0142ek wtorek \u015broda czwartek pi\u0105tek sobota niedziela",
    0x16: "segunda-feira ter\u00e7a-feira quarta-feira quinta-feira sexta-feira s\u00e1bado domingo",
    0x1D: "m\u00e5ndag tisdag onsdag torsdag fredag l\u00f6rdag s\u00f6ndag",
}
_ENGLISH = 0x09
_LANGUAGE = 0xFF


def months_of(language: int) -> Sequence[str]:
    """January to December."""
    return _MONTHS.get(language & _LANGUAGE, _MONTHS[_ENGLISH]).split()


def days_of(language: int) -> Sequence[str]:
    """Monday to Sunday."""
    return _DAYS.get(language & _LANGUAGE, _DAYS[_ENGLISH]).split()
