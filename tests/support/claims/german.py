"""Passages in German, each with sentences that it supports and sentences that only sound like it."""

from tests.support.claims.topic import Topic

__all__ = ["TOPICS"]

TOPICS = (
    Topic(
        "reisekosten.md",
        "Für Dienstreisen mit dem eigenen Pkw werden 0,30 € je Kilometer erstattet. Hotelkosten werden bis 120 € "
        "pro Nacht übernommen, in München bis 150 €. Belege sind spätestens 30 Tage nach der Reise bei Frau Wegner "
        "einzureichen. Bahnfahrten erster Klasse werden nicht erstattet.",
        (
            "Pro Kilometer mit dem eigenen Auto gibt es 0,30 Euro.",
            "In München werden Hotelkosten bis 150 € übernommen.",
            "Die Belege müssen innerhalb von 30 Tagen bei Frau Wegner eingereicht werden.",
            "Fahrten in der ersten Klasse der Bahn werden nicht bezahlt.",
        ),
        (
            "Je Kilometer mit dem eigenen Pkw werden 0,35 € erstattet.",
            "Hotelkosten werden in Hamburg bis 150 € übernommen.",
            "Belege sind bei Frau Wagner einzureichen.",
            "Bahnfahrten erster Klasse werden erstattet.",
        ),
    ),
    Topic(
        "anlage-7.pdf",
        "Der Kessel K7 wurde am 3. Mai 2019 in Betrieb genommen. Der zulässige Betriebsdruck beträgt 16 bar bei "
        "höchstens 200 °C. Das Sicherheitsventil wird jährlich vom TÜV Süd geprüft. Vor dem Öffnen muss der Kessel "
        "drucklos sein.",
        (
            "Der Kessel K7 ist seit dem 03.05.2019 in Betrieb.",
            "Der Betriebsdruck darf bis zu 16 bar betragen.",
            "Der TÜV Süd prüft das Sicherheitsventil jedes Jahr.",
        ),
        (
            "Der Kessel K7 wurde am 5. März 2019 in Betrieb genommen.",
            "Der zulässige Betriebsdruck beträgt 16 mbar.",
            "Das Sicherheitsventil wird monatlich vom TÜV Süd geprüft.",
        ),
    ),
    Topic(
        "satzung.docx",
        "Der Verein hat 1.250 Mitglieder. Der Vorstand besteht aus drei Personen und wird alle zwei Jahre gewählt. "
        "Vorsitzende ist Sabine Kroll, Kassenwart ist Jonas Brandt. Der Jahresbeitrag beträgt 48 Euro.",
        (
            "Der Verein zählt 1250 Mitglieder.",
            "Alle 2 Jahre wird der Vorstand gewählt.",
            "Sabine Kroll ist die Vorsitzende des Vereins.",
            "Mitglieder zahlen 48 € im Jahr.",
        ),
        (
            "Der Verein hat 1.520 Mitglieder.",
            "Der Vorstand wird alle drei Jahre gewählt.",
            "Vorsitzender ist Jonas Brandt.",
            "Der Jahresbeitrag beträgt 84 Euro.",
        ),
    ),
    Topic(
        "it-richtlinie.md",
        "Passwörter haben mindestens 14 Zeichen und dürfen nicht weitergegeben werden. Nach fünf falschen "
        "Versuchen wird das Konto für 15 Minuten gesperrt. Private USB-Sticks sind verboten. Backups laufen jede "
        "Nacht um 2 Uhr.",
        (
            "Ein Passwort muss mindestens 14 Zeichen lang sein.",
            "Das Konto wird nach 5 falschen Versuchen 15 Minuten lang gesperrt.",
            "Private USB-Sticks sind nicht erlaubt.",
            "Backups laufen nachts um 02:00 Uhr.",
        ),
        (
            "Passwörter haben höchstens 14 Zeichen.",
            "Nach fünf falschen Versuchen wird das Konto für 15 Stunden gesperrt.",
            "Private USB-Sticks sind erlaubt.",
            "Backups laufen jede Nacht um 3 Uhr.",
        ),
    ),
    Topic(
        "lieferplan.xlsx",
        "Artikel BX-40-1172 wird aus Rotterdam geliefert, Lieferzeit 6 Wochen. Artikel BX-40-1127 wird aus Triest "
        "geliefert, Lieferzeit 9 Wochen. Bestellungen unter 500 € sind nicht möglich.",
        (
            "Die Lieferzeit von BX-40-1172 beträgt 6 Wochen.",
            "BX-40-1127 kommt aus Triest.",
            "Man kann nicht für weniger als 500 Euro bestellen.",
        ),
        (
            "Die Lieferzeit von BX-40-1172 beträgt 9 Wochen.",
            "Artikel BX-40-1127 wird aus Rotterdam geliefert.",
            "Bestellungen unter 500 € sind möglich.",
        ),
    ),
    Topic(
        "zoo-regeln.md",
        "Der Zoo öffnet im Winter um 10 Uhr und schließt um 16 Uhr. Hunde sind an der Leine erlaubt. Die Elefanten "
        "werden vor den Giraffen gefüttert. Kinder unter sechs Jahren haben freien Eintritt.",
        (
            "Im Winter schließt der Zoo um 16 Uhr.",
            "Hunde dürfen an der Leine mitgebracht werden.",
            "Für Kinder, die jünger als 6 Jahre sind, ist der Eintritt frei.",
        ),
        (
            "Im Sommer öffnet der Zoo um 10 Uhr.",
            "Hunde sind an der Leine nicht erlaubt.",
            "Die Giraffen werden vor den Elefanten gefüttert.",
            "Kinder unter acht Jahren haben freien Eintritt.",
        ),
    ),
    Topic(
        "brandschutz.pdf",
        "Im Brandfall ist der Aufzug nicht zu benutzen. Sammelplatz ist der Parkplatz Nord an der Lindenallee. "
        "Feuerlöscher werden alle zwei Jahre von der Firma Gruber gewartet. Brandschutzbeauftragter ist Herr "
        "Yilmaz, Telefon 4711. Die Übung findet im Oktober statt.",
        (
            "Bei einem Brand darf der Aufzug nicht benutzt werden.",
            "Der Sammelplatz befindet sich auf dem Parkplatz Nord.",
            "Die Firma Gruber wartet die Feuerlöscher alle 2 Jahre.",
            "Herr Yilmaz ist der Brandschutzbeauftragte.",
            "Im Oktober gibt es eine Übung.",
        ),
        (
            "Im Brandfall ist der Aufzug zu benutzen.",
            "Sammelplatz ist der Parkplatz Süd.",
            "Feuerlöscher werden alle drei Jahre gewartet.",
            "Brandschutzbeauftragter ist Herr Demir.",
            "Die Übung findet im November statt.",
        ),
    ),
    Topic(
        "produktblatt.pdf",
        "Die Pumpe P-880 fördert 45 Liter pro Minute und wiegt 12,5 kg. Sie ist für Wasser geeignet, aber nicht "
        "für Säuren. Der Preis beträgt 1.399 Euro. Die Garantie läuft 36 Monate. Hersteller ist Brunner in Graz.",
        (
            "Die P-880 schafft 45 l pro Minute.",
            "Die Pumpe hat ein Gewicht von 12,5 Kilogramm.",
            "Für Säuren ist die Pumpe nicht geeignet.",
            "Die Garantie gilt drei Jahre.",
            "Die Pumpe kostet 1399 €.",
        ),
        (
            "Die Pumpe P-880 fördert 45 Liter pro Stunde.",
            "Die Pumpe wiegt 125 kg.",
            "Die Pumpe ist für Säuren geeignet.",
            "Der Preis beträgt 1.939 Euro.",
            "Hersteller ist Brunner in Linz.",
            "Die Garantie läuft 24 Monate.",
        ),
    ),
    Topic(
        "protokoll.docx",
        "Am 17. April 2024 tagte der Betriebsrat. Anwesend waren Karin Vogt, Emre Aydin und Lars Petersen. Karin "
        "Vogt schlug vor, die Kernzeit um eine Stunde zu verkürzen; Lars Petersen stimmte dagegen. Die nächste "
        "Sitzung ist am 22. Mai in Raum 3.07.",
        (
            "Die nächste Sitzung findet am 22. Mai statt.",
            "Karin Vogt machte den Vorschlag, die Kernzeit um eine Stunde zu verkürzen.",
            "Der Betriebsrat tagte am 17.4.2024.",
            "Lars Petersen hat dagegen gestimmt.",
        ),
        (
            "Die nächste Sitzung ist am 25. Mai in Raum 3.07.",
            "Emre Aydin schlug vor, die Kernzeit zu verkürzen.",
            "Karin Vogt stimmte dagegen.",
            "Am 17. August 2024 tagte der Betriebsrat.",
            "Karin Vogt schlug vor, die Kernzeit um eine Stunde zu verlängern.",
        ),
    ),
    Topic(
        "mietvertrag.pdf",
        "Die Kaltmiete beträgt 1.180,50 Euro, die Nebenkosten 210 Euro. Das Mietverhältnis beginnt am 1. August "
        "2023. Haustiere sind nur mit Zustimmung des Vermieters gestattet. Schönheitsreparaturen trägt der Mieter. "
        "Die Kündigungsfrist beträgt drei Monate.",
        (
            "Die Kaltmiete liegt bei 1180,50 €.",
            "Der Mietbeginn ist der 1.8.2023.",
            "Der Mieter ist für Schönheitsreparaturen zuständig.",
            "Für die Kündigung gilt eine Frist von 3 Monaten.",
            "Die Nebenkosten betragen 210 Euro.",
        ),
        (
            "Die Kaltmiete beträgt 1.118,50 Euro.",
            "Das Mietverhältnis beginnt am 1. April 2023.",
            "Schönheitsreparaturen trägt der Vermieter.",
            "Die Kündigungsfrist beträgt drei Wochen.",
            "Die Nebenkosten betragen 1.180,50 Euro.",
            "Haustiere sind nicht gestattet.",
        ),
    ),
    Topic(
        "forschung.md",
        "Das Team um Professor Lindner an der Universität Kiel untersuchte 2.400 Proben. In 18 Prozent davon fand "
        "es Mikroplastik, vor allem Polyethylen. Die Messungen liefen von März bis September 2020. Die Studie "
        "wurde vom Land Schleswig-Holstein mit 1,2 Millionen Euro gefördert.",
        (
            "In 18 % der Proben wurde Mikroplastik gefunden.",
            "Das Land Schleswig-Holstein förderte die Studie mit 1,2 Mio. Euro.",
            "Insgesamt wurden 2400 Proben untersucht.",
            "Professor Lindner forscht an der Universität Kiel.",
        ),
        (
            "Das Team untersuchte 4.200 Proben.",
            "Das Team um Professor Linden untersuchte die Proben.",
            "Die Messungen liefen von Mai bis September 2020.",
            "Die Studie wurde mit 12 Millionen Euro gefördert.",
            "In 81 Prozent der Proben fand es Mikroplastik.",
            "Das Team arbeitet an der Universität Köln.",
        ),
    ),
    Topic(
        "kantine.txt",
        "Die Kantine ist montags bis freitags von 11:30 bis 14:00 Uhr geöffnet. Das Tagesgericht kostet 6,90 €, "
        "für Gäste 8,90 €. Bargeld wird nicht angenommen. Vegetarische Gerichte gibt es jeden Mittwoch.",
        (
            "Man kann in der Kantine nicht bar bezahlen, Bargeld wird nicht angenommen.",
            "Gäste zahlen 8,90 Euro für das Tagesgericht.",
            "Jeden Mittwoch gibt es vegetarische Gerichte.",
            "Die Kantine schließt um 14 Uhr.",
        ),
        (
            "Bargeld wird angenommen.",
            "Das Tagesgericht kostet für Gäste 6,90 €.",
            "Vegetarische Gerichte gibt es jeden Dienstag.",
            "Die Kantine ist von 11:30 bis 15:00 Uhr geöffnet.",
        ),
    ),
    Topic(
        "motor.pdf",
        "Der Motor M2 leistet 75 kW bei 3.000 Umdrehungen pro Minute. Der Motor M3 leistet 110 kW und hat eine "
        "Wasserkühlung. Beide sind für Umgebungstemperaturen bis 40 °C zugelassen. Der M2 darf nicht im Freien "
        "aufgestellt werden.",
        (
            "M2 hat eine Leistung von 75 kW.",
            "Der M3 ist wassergekühlt.",
            "Im Freien darf der M2 nicht stehen.",
            "Der Motor M3 leistet 110 Kilowatt.",
        ),
        (
            "Der Motor M2 leistet 110 kW.",
            "Der Motor M2 hat eine Wasserkühlung.",
            "Der M2 darf im Freien aufgestellt werden.",
            "Der Motor M3 leistet 75 kW.",
            "Beide sind bis 45 °C zugelassen.",
        ),
    ),
)
