"""Passages whose false sentences differ by what is easy to overlook: a unit's prefix, a digit, a neighbour's value, an
ordinal, a range's end, a role, a word that limits. English and German."""

from tests.support.claims.topic import Topic

__all__ = ["TOPICS"]

TOPICS = (
    Topic(
        "spec-sheet-ax9.pdf",
        "The AX9 sensor runs on 3.3 V and draws 45 µA in standby and 12 mA while measuring. Its range is -40 to 125 "
        "°C with an accuracy of ±0.5 °C. Data is sent over I2C at up to 400 kHz. The AX9-B has SPI instead of I2C.",
        (
            "The AX9 needs a supply of 3.3 volts.",
            "In standby the AX9 draws 45 µA.",
            "While measuring the sensor draws 12 mA.",
            "The AX9-B uses SPI instead of I2C.",
            "I2C works at up to 400 kHz.",
        ),
        (
            "The AX9 sensor runs on 5 V.",
            "The AX9 draws 45 mA in standby.",
            "The AX9 draws 12 mA in standby.",
            "Its accuracy is ±0.05 °C.",
            "Data is sent over I2C at up to 400 MHz.",
            "Its range is -40 to 152 °C.",
            "The AX9-C has SPI instead of I2C.",
        ),
    ),
    Topic(
        "incident-4471.md",
        "At 02:14 UTC on 9 January 2025 the payments service stopped answering. Priya Raman was paged and restarted "
        "the database primary at 02:31. The cause was a full disk on db-07, not the deployment of build 5.12.3. "
        "In total 1,308 payments failed; all but 17 were retried successfully.",
        (
            "The payments service went down on 9 January 2025 at 02:14 UTC.",
            "Priya Raman restarted the database primary.",
            "A full disk on db-07 was the cause.",
            "1,308 payments failed in total.",
            "The deployment of build 5.12.3 was not the cause.",
        ),
        (
            "The payments service stopped answering at 02:41 UTC.",
            "Priya Ramanathan restarted the database primary.",
            "The cause was a full disk on db-17.",
            "The cause was the deployment of build 5.12.3.",
            "In total 1,380 payments failed.",
            "The incident was on 9 January 2024.",
            "The database primary was restarted at 02:14.",
        ),
    ),
    Topic(
        "supply-agreement.docx",
        "Norwood Foods supplies Pellan Bakeries with 12 tonnes of flour per month at 0.48 euros per kilogram. "
        "Invoices are due within 30 days; late payments bear interest of 4 % per year. Pellan may cancel the agreement "
        "with six months' notice, Norwood only with twelve. Disputes are heard in Antwerp under Belgian law.",
        (
            "Norwood Foods delivers 12 tonnes of flour to Pellan Bakeries every month.",
            "Flour costs 0.48 euros a kilogram.",
            "Invoices have to be paid within 30 days.",
            "Disputes are heard in Antwerp.",
            "Pellan may cancel with six months' notice.",
        ),
        (
            "Pellan Bakeries supplies Norwood Foods with 12 tonnes of flour per month.",
            "Flour is supplied at 0.84 euros per kilogram.",
            "Late payments bear interest of 4 % per month.",
            "Norwood may cancel the agreement with six months' notice.",
            "Disputes are heard in Ghent under Belgian law.",
            "Disputes are heard in Antwerp under Dutch law.",
            "Norwood Foods supplies 12 kilograms of flour per month.",
        ),
    ),
    Topic(
        "course-catalogue.html",
        "CHEM-210 is taught by Professor Imani Clarke in the autumn term and gives 6 credits. CHEM-310 is taught by "
        "Dr. Felix Moreau in the spring term and gives 9 credits. Students need a pass in CHEM-210 before they may "
        "take CHEM-310. The exam lasts three hours and no calculators are allowed.",
        (
            "Imani Clarke teaches CHEM-210.",
            "CHEM-310 gives 9 credits.",
            "Calculators are not allowed in the exam.",
            "The exam takes three hours.",
            "CHEM-310 is taught in the spring term.",
        ),
        (
            "Felix Moreau teaches CHEM-210.",
            "CHEM-210 gives 9 credits.",
            "CHEM-310 is taught in the autumn term.",
            "Calculators are allowed in the exam.",
            "The exam lasts two hours.",
            "Students need a pass in CHEM-310 before they may take CHEM-210.",
            "CHEM-211 gives 6 credits.",
        ),
    ),
    Topic(
        "vaccination-guide.pdf",
        "Children receive the first dose at 9 weeks and the second at 15 weeks of age; a booster follows at 12 months. "
        "The vaccine is kept between 2 and 8 °C and must never be frozen. It is not given to patients with a "
        "known allergy to neomycin. Mild fever occurs in about one in ten children.",
        (
            "The first dose is given at the age of 9 weeks.",
            "A booster is given at 12 months.",
            "The vaccine must not be frozen.",
            "Patients who are allergic to neomycin do not get the vaccine.",
        ),
        (
            "The second dose is given at 9 weeks of age.",
            "The booster follows at 12 weeks.",
            "The vaccine is kept between 2 and 18 °C.",
            "The vaccine may be frozen.",
            "It is given to patients with a known allergy to neomycin.",
            "Mild fever occurs in about one in a hundred children.",
        ),
    ),
    Topic(
        "expedition-log.txt",
        "The expedition left Ushuaia on 4 December 1997 under Captain Rosa Imbert and reached the ice shelf eleven "
        "days later. Two of its nine members fell ill and were flown to Punta Arenas. The third camp, at 2,140 metres, "
        "was the highest. The ship's engineer, Olav Brekke, kept this log.",
        (
            "Rosa Imbert was the captain of the expedition.",
            "The expedition set out from Ushuaia in December 1997.",
            "Two members fell ill and were flown to Punta Arenas.",
            "Camp three stood at 2,140 metres.",
            "Olav Brekke was the ship's engineer.",
        ),
        (
            "The expedition left Ushuaia on 4 November 1997.",
            "The expedition left Punta Arenas on 4 December 1997.",
            "Three of its nine members fell ill.",
            "The third camp was at 2,410 metres.",
            "The second camp was the highest.",
            "Rosa Imbert was the ship's engineer.",
            "The expedition reached the ice shelf twelve days later.",
        ),
    ),
    Topic(
        "tariff-table.md",
        "| Plan | Monthly fee | Storage | Support |\n| --- | --- | --- | --- |\n"
        "| Basic | 9 EUR | 50 GB | e-mail |\n| Team | 29 EUR | 500 GB | telephone |\n"
        "| Enterprise | 99 EUR | 5 TB | on site |",
        (
            "The Team plan costs 29 EUR a month.",
            "Basic comes with 50 GB of storage.",
            "Enterprise has 5 TB of storage.",
            "The Team plan has support by telephone.",
        ),
        (
            "The Basic plan costs 29 EUR a month.",
            "Team comes with 50 GB of storage.",
            "Enterprise has 5 GB of storage.",
            "The Basic plan has support by telephone.",
            "The Enterprise plan costs 89 EUR a month.",
        ),
    ),
    Topic(
        "faq.md",
        "Refunds are paid to the original card within five working days. Gift cards cannot be refunded. Orders over 80 "
        "dollars ship free of charge within Canada; the United States costs 14 dollars. You can change the address "
        "until the parcel has left our warehouse in Halifax.",
        (
            "Refunds arrive on the original card within five working days.",
            "Gift cards are not refundable.",
            "Shipping to the United States costs $14.",
            "Orders of more than 80 dollars are shipped free within Canada.",
        ),
        (
            "Refunds are paid within five weeks.",
            "Gift cards can be refunded.",
            "Orders over 80 dollars ship free of charge within the United States.",
            "Orders under 80 dollars ship free of charge within Canada.",
            "Shipping to Canada costs 14 dollars.",
            "The warehouse is in Hamilton.",
        ),
    ),
    Topic(
        "kernel-notes.txt",
        "Since kernel 6.9 the scheduler uses EEVDF by default; CFS was removed in 6.12. The option vm.swappiness "
        "defaults to 60 and accepts values up to 200. Writes are flushed every 5 seconds. The patch was written by "
        "Mira Lindqvist and reviewed by Tomasz Zielinski.",
        (
            "CFS was removed in kernel 6.12.",
            "vm.swappiness is 60 by default.",
            "Mira Lindqvist wrote the patch.",
            "Tomasz Zielinski reviewed the patch.",
            "Writes are flushed every five seconds.",
        ),
        (
            "CFS was removed in kernel 6.9.",
            "vm.swappiness defaults to 200.",
            "The patch was written by Tomasz Zielinski.",
            "Writes are flushed every 50 seconds.",
            "Since kernel 6.6 the scheduler uses EEVDF.",
            "vm.swappiness accepts values up to 100.",
        ),
    ),
    Topic(
        "dienstplan.docx",
        "Die Frühschicht beginnt um 6:00 Uhr und endet um 14:00 Uhr, die Spätschicht endet um 22:00 Uhr. Leiter der "
        "Frühschicht ist Mehmet Kaya, die Spätschicht leitet Anke Thiele. Überstunden werden mit 25 Prozent "
        "Zuschlag bezahlt, an Feiertagen mit 100 Prozent. Tausch ist nur bis Freitag möglich.",
        (
            "Die Frühschicht fängt um 6 Uhr an.",
            "Anke Thiele leitet die Spätschicht.",
            "Für Überstunden gibt es 25 % Zuschlag.",
            "An Feiertagen beträgt der Zuschlag 100 Prozent.",
            "Die Spätschicht endet um 22 Uhr.",
        ),
        (
            "Die Frühschicht beginnt um 7:00 Uhr.",
            "Mehmet Kaya leitet die Spätschicht.",
            "Überstunden werden mit 35 Prozent Zuschlag bezahlt.",
            "Überstunden werden an Feiertagen mit 25 Prozent Zuschlag bezahlt.",
            "Tausch ist nur bis Donnerstag möglich.",
            "Die Spätschicht endet um 14:00 Uhr.",
        ),
    ),
    Topic(
        "bescheid-2024-0815.pdf",
        "Mit Bescheid vom 12. Februar 2024, Aktenzeichen III-47/2024, bewilligt die Stadt Gera einen Zuschuss von "
        "18.400 Euro. Das Geld ist bis zum 31. Oktober abzurufen. Widerspruch kann innerhalb eines Monats eingelegt "
        "werden. Zuständig ist Frau Nowak im Bauamt, Zimmer 204.",
        (
            "Die Stadt Gera bewilligt 18.400 € Zuschuss.",
            "Das Aktenzeichen lautet III-47/2024.",
            "Der Zuschuss muss bis 31. Oktober abgerufen werden.",
            "Frau Nowak vom Bauamt ist zuständig.",
            "Innerhalb eines Monats kann man Widerspruch einlegen.",
        ),
        (
            "Die Stadt Jena bewilligt einen Zuschuss von 18.400 Euro.",
            "Das Aktenzeichen lautet III-74/2024.",
            "Die Stadt Gera bewilligt einen Zuschuss von 14.800 Euro.",
            "Das Geld ist bis zum 31. Dezember abzurufen.",
            "Widerspruch kann nicht eingelegt werden.",
            "Zuständig ist Frau Nowak in Zimmer 240.",
            "Der Bescheid ist vom 12. Februar 2023.",
        ),
    ),
    Topic(
        "rezeptur.md",
        "Für die Lasur werden 300 g Leinöl mit 40 g Bienenwachs bei 65 °C verrührt. Danach kommen 15 ml Terpentin "
        "hinzu, niemals vorher. Die Lasur trocknet in 24 Stunden und reicht für etwa 8 m². Kinder dürfen nicht "
        "dabei sein.",
        (
            "Man braucht 300 Gramm Leinöl für die Lasur.",
            "Die Lasur ist nach 24 Stunden trocken.",
            "Verrührt wird bei 65 °C.",
            "15 ml Terpentin kommen danach hinzu.",
        ),
        (
            "Für die Lasur werden 40 g Leinöl verrührt.",
            "Die Lasur trocknet in 24 Minuten.",
            "Es kommen 15 l Terpentin hinzu.",
            "Kinder dürfen dabei sein.",
            "Die Lasur reicht für etwa 18 m².",
            "Die Lasur wird mit 300 g Bienenwachs verrührt.",
        ),
    ),
    Topic(
        "fahrplan.txt",
        "Die Linie 7 fährt werktags alle 12 Minuten vom Hauptbahnhof nach Ellerbek. Die Linie 9 fährt nur am "
        "Wochenende. Der erste Bus startet um 4:52 Uhr. Eine Tageskarte kostet 8,60 Euro und gilt für bis zu fünf "
        "Personen; Fahrräder brauchen eine eigene Karte.",
        (
            "Werktags fährt die Linie 7 alle 12 Minuten.",
            "Die Tageskarte kostet 8,60 €.",
            "Der erste Bus fährt um 4:52 Uhr los.",
            "Für ein Fahrrad braucht man eine eigene Karte.",
            "Die Linie 9 verkehrt nur am Wochenende.",
        ),
        (
            "Die Linie 9 fährt alle 12 Minuten vom Hauptbahnhof nach Ellerbek.",
            "Die Linie 7 fährt nur am Wochenende.",
            "Der erste Bus startet um 5:42 Uhr.",
            "Die Tageskarte gilt für bis zu vier Personen.",
            "Fahrräder brauchen keine eigene Karte.",
            "Die Linie 7 fährt von Ellerbek nach Hauptbahnhof alle 20 Minuten.",
            "Eine Tageskarte kostet 6,80 Euro.",
        ),
    ),
    Topic(
        "studie-schlaf.pdf",
        "An der Studie nahmen 186 Schichtarbeiter teil, davon 71 Frauen. Die Gruppe A erhielt 3 mg Melatonin, die "
        "Gruppe B ein Placebo. Die Einschlafzeit sank in Gruppe A um 19 Minuten und in Gruppe B um 6 Minuten. "
        "Leiterin war Dr. Helena Sommer vom Klinikum Fulda.",
        (
            "186 Schichtarbeiter haben an der Studie teilgenommen.",
            "In Gruppe A sank die Einschlafzeit um 19 Minuten.",
            "Helena Sommer leitete die Studie.",
            "Gruppe B bekam ein Placebo.",
        ),
        (
            "An der Studie nahmen 168 Schichtarbeiter teil.",
            "In Gruppe B sank die Einschlafzeit um 19 Minuten.",
            "Die Gruppe A erhielt 3 g Melatonin.",
            "Die Gruppe A erhielt ein Placebo.",
            "Die Einschlafzeit stieg in Gruppe A um 19 Minuten.",
            "Dr. Helena Winter leitete die Studie.",
            "Dr. Helena Sommer arbeitet am Klinikum Kassel.",
        ),
    ),
)
