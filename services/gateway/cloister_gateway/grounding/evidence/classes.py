"""Closed classes of words, and opposites: what a sentence cannot exchange and stay true.

Days of the week, colours, periods, what rises and falls: members of one class exclude each other where they stand in
the same place. One class has the words of English, German, French and Russian.
"""

from functools import lru_cache

from cloister_gateway.grounding.evidence.words import fold

__all__ = ["class_of"]

_CLASSES: dict[str, dict[str, str]] = {
    "weekday": {
        "1": "monday mondays montag montags lundi понедельник*",
        "2": "tuesday tuesdays dienstag dienstags mardi вторник*",
        "3": "wednesday wednesdays mittwoch mittwochs mercredi среда среду среды средам",
        "4": "thursday thursdays donnerstag donnerstags jeudi четверг*",
        "5": "friday fridays freitag freitags vendredi пятниц*",
        "6": "saturday saturdays samstag samstags samedi суббот*",
        "7": "sunday sundays sonntag sonntags dimanche воскресень*",
    },
    "colour": {
        "red": "red rot rote roten roter rotes rotem rouge rouges красный красная красную",
        "blue": "blue blau blaue blauen blauer blaues blauem bleu bleue bleus синий синяя синюю",
        "green": "green grün grüne grünen grüner grünes grünem vert verte зелёный зелёная",
        "yellow": "yellow gelb gelbe gelben gelber gelbes gelbem jaune жёлтый жёлтая",
        "black": "black schwarz schwarze schwarzen schwarzer schwarzes noir noire чёрный чёрная",
        "white": "white weiß weiße weißen weißer weißes blanc blanche белый белая",
        "grey": "grey gray grau graue grauen gris grise серый серая",
        "orange": "orange",
        "brown": "brown braun braune braunen brun коричневый",
        "purple": "purple violet violett lila фиолетовый",
    },
    "direction": {
        "n": "north northern nord norden nördlich nördliche север северный",
        "s": "south southern süd süden südlich südliche sud юг южный",
        "e": "east eastern ost osten östlich östliche восток восточный",
        "w": "west western westen westlich westliche ouest запад западный",
    },
    "side": {
        "left": "left links linke linken linker gauche левый левая слева",
        "right": "right rechts rechte rechten rechter droite правый правая справа",
    },
    "season": {
        "spring": "spring frühling frühjahr printemps весна весной",
        "summer": "summer sommer été лето летом",
        "autumn": "autumn herbst automne осень осенью",
        "winter": "winter hiver зима зимой",
    },
    "period": {
        "second": "sekunde",
        "minute": "minute minuten minutes минуту",
        "night": "night nightly nachts nacht nuit ночь ночью",
        "hour": "hour hourly stunde stündlich heure час ежечасно",
        "day": "day daily tag täglich quotidien quotidienne jour ежедневно день",
        "week": "week weekly woche wöchentlich semaine hebdomadaire еженедельно неделю неделя",
        "month": "month monthly monat monatlich monatliche mois mensuel mensuelle ежемесячно месяц",
        "quarter": "quarterly quartal vierteljährlich trimestriel ежеквартально",
        "year": "year yearly annual annually jahr jährlich jährliche année annuel annuelle ежегодно год",
    },
    "ordinal": {
        "1": "first erste ersten erster erstes erstem premier première первый первая первую первого",
        "2": "second zweite zweiten zweiter zweites zweitem deuxième второй вторая вторую второго",
        "3": "third dritte dritten dritter drittes drittem troisième третий третья третью",
        "4": "fourth vierte vierten vierter viertes quatrième четвёртый четвёртая",
        "5": "fifth fünfte fünften fünfter fünftes cinquième пятый пятая",
    },
    "bound": {
        "least": "least minimum minimal mindestens wenigstens minimale minimum минимум",
        "most": "most maximum maximal höchstens maximale bis upto spätestens maximum максимум",
    },
    "change": {
        "up": "rise* rose increas* grew grow* climb* gain* higher raise* steig* stieg* gestiegen erhoh* wuchs zunahm "
        "zugenommen augment* hausse lengthen* extend* prolong* verlanger* allong* вырос* увелич* повыс* удлин*",
        "down": "fall falls fell fallen decreas* declin* drop* lower* shrank shrink* reduc* cut sink* sank gesunken "
        "verringer* fiel* gefallen gesenkt senk* reduzier* diminu* baisse* shorten* verkurz* raccourc* упал* сниз* "
        "уменьш* сократ*",
    },
    "order": {
        "before": "before prior avant до перед earlier older früher vorher",
        "after": "after afterwards nach after après после later newer später danach",
    },
    "height": {
        "above": "above over exceeding über oberhalb au-dessus выше свыше",
        "below": "below under beneath unter unterhalb dessous ниже",
    },
    "amount": {
        "more": "more mehr plus больше более",
        "less": "less fewer weniger moins меньше менее",
    },
    "opening": {
        "open": "open opens opened offen öffnet geöffnet ouvert ouvre открыт открыта открывается",
        "close": "closed closes close geschlossen schließt fermé ferme закрыт закрыта закрывается",
    },
    "duty": {
        "must": "mandatory required compulsory obligatory verpflichtend pflicht erforderlich obligatoire обязательно",
        "may": "optional voluntary freiwillig optional facultatif добровольно",
    },
    "switch": {
        "on": "enabled activated aktiviert eingeschaltet activé включён включена",
        "off": "disabled deactivated deaktiviert ausgeschaltet désactivé выключен выключена",
    },
    "direction of money": {
        "buyer": "buyer buyers käufer acheteur покупатель",
        "seller": "seller sellers verkäufer vendeur продавец",
    },
    "lease": {
        "tenant": "tenant tenants mieter locataire арендатор",
        "landlord": "landlord landlords vermieter bailleur арендодатель",
    },
    "employment": {
        "employer": "employer employers arbeitgeber employeur работодатель",
        "employee": "employee employees arbeitnehmer employé employés работник",
    },
    "flow": {
        "in": "inlet input incoming eingang eingehend einlass",
        "out": "outlet output outgoing ausgang ausgehend auslass",
    },
    "temperature": {
        "hot": "hot warm heiß warme warmes chaud горячий",
        "cold": "cold cool kalt kalte kaltes froid холодный",
    },
    "sex": {
        "male": "male males man men männlich männliche mann männer mâle mâles homme hommes мужчина мужчины",
        "female": "female females woman women weiblich weibliche frau frauen femelle femelles femme femmes женщина "
        "женщины",
    },
    "place": {
        "inside": "inside indoors innen drinnen intérieur внутри",
        "outside": "outside outdoors außen draußen extérieur снаружи",
    },
    "size": {
        "large": "large larger largest big bigger biggest groß größer größte größten",
        "small": "small smaller smallest klein kleiner kleinste kleinsten",
    },
    "length": {
        "long": "longest länger längste",
        "short": "shortest kürzer kürzeste",
    },
    "begin": {
        "begin": "begins starts began started start begin beginnt begann commence начинается",
        "end": "ends ended end endet endete expires termine expire заканчивается",
    },
    "rank": {"best": "best beste besten", "worst": "worst schlechteste schlechtesten"},
    "height of price": {
        "cheap": "cheapest cheaper billiger günstiger günstigste",
        "dear": "dearest expensive teurer teuerste",
    },
    "language": {
        "en": "english englisch englische anglais английский английском",
        "de": "german deutsch deutsche allemand немецкий немецком",
        "fr": "french französisch französische français французский французском",
        "ru": "russian russisch russische russe русский русском",
        "es": "spanish spanisch spanische espagnol испанский",
        "it": "italian italienisch italien итальянский",
        "pt": "portuguese portugiesisch portugais португальский",
        "zh": "chinese chinesisch chinois китайский",
    },
}
"""Class to its members, and the words that mean each; with a star all that begin so."""
_CLASS_OF = {
    fold(word): (name, member)
    for name, members in _CLASSES.items()
    for member, words in members.items()
    for word in words.split()
}
_BEGINNINGS = tuple((word.rstrip("*"), member) for word, member in _CLASS_OF.items() if word.endswith("*"))


@lru_cache(maxsize=16384)
def class_of(folded: str) -> tuple[str, str] | None:
    """The class of a word, and which member of it the word means."""
    known = _CLASS_OF.get(folded)
    if known is not None:
        return known
    return next((member for beginning, member in _BEGINNINGS if folded.startswith(beginning)), None)
