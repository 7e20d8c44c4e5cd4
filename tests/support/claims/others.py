"""Passages in French and Russian, each with sentences that it supports and sentences that only sound like it."""

from tests.support.claims.topic import Topic

__all__ = ["TOPICS"]

TOPICS = (
    Topic(
        "contrat.pdf",
        "Le contrat prend effet le 1er septembre 2024 pour une durée de trois ans. Le loyer mensuel est de 2 450 "
        "euros. Le locataire ne peut pas sous-louer les locaux sans l'accord écrit de Mme Lefèvre.",
        (
            "Le contrat commence le 1er septembre 2024.",
            "Le loyer est de 2450 € par mois.",
            "La durée du contrat est de 3 ans.",
        ),
        (
            "Le contrat prend effet le 1er novembre 2024.",
            "Le loyer mensuel est de 2 540 euros.",
            "Le locataire peut sous-louer les locaux.",
        ),
    ),
    Topic(
        "pravila.txt",
        "Офис открыт с 8:00 до 19:00. Пропуск выдаёт Ольга Смирнова в кабинете 214. Гости не могут входить в "
        "лабораторию без сопровождения. Стоимость обеда составляет 350 рублей.",
        (
            "Пропуск можно получить у Ольги Смирновой в кабинете 214.",
            "Обед стоит 350 рублей.",
            "Офис закрывается в 19:00.",
        ),
        (
            "Пропуск выдаёт Ольга Смирнова в кабинете 241.",
            "Стоимость обеда составляет 530 рублей.",
            "Гости могут входить в лабораторию без сопровождения.",
        ),
    ),
    Topic(
        "menu-cantine.txt",
        "La cantine est ouverte de 11 h 30 à 14 h. Un repas coûte 7,80 euros pour les employés et 10,50 euros pour "
        "les visiteurs. Les chiens ne sont pas admis. Le chef s'appelle Bruno Castel.",
        (
            "Un repas coûte 7,80 € pour les employés.",
            "Bruno Castel est le chef de la cantine.",
            "Les chiens n'ont pas le droit d'entrer : ils ne sont pas admis.",
        ),
        (
            "Un repas coûte 7,80 euros pour les visiteurs.",
            "Le chef s'appelle Bruno Cartel.",
            "Les chiens sont admis.",
        ),
    ),
    Topic(
        "dogovor.txt",
        "Договор подписан 12 марта 2022 года. Арендатор платит 45 000 рублей в месяц. Ремонт выполняет фирма "
        "«Север». Договор нельзя расторгнуть раньше чем через один год.",
        (
            "Договор был подписан 12 марта 2022 года.",
            "Арендатор платит 45000 рублей каждый месяц.",
            "Фирма «Север» выполняет ремонт.",
        ),
        (
            "Договор подписан 12 мая 2022 года.",
            "Арендатор платит 54 000 рублей в месяц.",
            "Арендодатель платит 45 000 рублей в месяц.",
            "Ремонт выполняет фирма «Восток».",
        ),
    ),
    Topic(
        "bibliotheque.txt",
        "La bibliothèque compte 85 000 livres. Elle est fermée le lundi. On peut emprunter six documents pendant "
        "21 jours. La directrice, Hélène Moreau, a été nommée en février 2018.",
        (
            "Hélène Moreau est la directrice de la bibliothèque.",
            "On peut emprunter 6 documents.",
            "La bibliothèque possède 85000 livres.",
            "Le lundi, la bibliothèque est fermée.",
        ),
        (
            "La bibliothèque est fermée le mardi.",
            "La bibliothèque compte 58 000 livres.",
            "On peut emprunter six documents pendant 12 jours.",
            "La directrice a été nommée en février 2019.",
        ),
    ),
    Topic(
        "muzei.txt",
        "Музей основан в 1897 году. Билет стоит 300 рублей, для студентов 150 рублей. По понедельникам музей "
        "закрыт. Директор музея — Анна Беляева.",
        (
            "Музей был основан в 1897 году.",
            "Для студентов билет стоит 150 рублей.",
            "Анна Беляева — директор музея.",
        ),
        (
            "Музей основан в 1879 году.",
            "Для студентов билет стоит 300 рублей.",
            "По вторникам музей закрыт.",
            "Директор музея — Анна Белова.",
        ),
    ),
)
