"""Which texts describe a picture: captions, and what stands for it where it is not seen."""

import re

__all__ = ["is_caption", "is_description"]

_CAPTION = re.compile(
    r"(?:fig(?:ure|ura|\.)?|image|photo(?:graph)?|picture|illustration|chart|diagram|plate|exhibit|map|graph"
    r"|abb(?:ildung|\.)?|bild|foto|grafik|diagramm|schaubild|karte|afbeelding|figuur|ilustraci\u00f3n|imagen"
    r"|gr\u00e1fico|imagem|immagine|rys(?:unek|\.)?|rycina|obr(?:\u00e1zek|\.)?|kuva|\u0440\u0438\u0441(?:\u0443\u043d\u043e\u043a|\.)?"
    r"|\u56f3|\u56fe|\u5716|\uadf8\ub9bc)\s{0,3}(?:\d{1,4}(?:[.\-\u2013]\d{1,3}){0,3}[a-z]?\s{0,3}[:.\-\u2013\u2014\s]|:)",
    re.IGNORECASE,
)
_SAYS_NOTHING = re.compile(
    r"(?:image|img|picture|pic|photo|graphic|grafik|bild|foto|figure|logo|icon|screenshot|object|shape|untitled)"
    r"[\s_\-]{0,3}\d{0,6}|[\w\-. ]{1,100}\.(?:png|jpe?g|gif|webp|tiff?|bmp|svg|emf|wmf)|https?://\S+",
    re.IGNORECASE,
)


def is_caption(text: str) -> bool:
    """Whether a paragraph begins as captions do: ``Figure 3:``, ``Abb. 2.1 ``."""
    return _CAPTION.match(text[:60].lstrip()) is not None


def is_description(text: str) -> bool:
    """Whether a text that stands for a picture says anything of it: ``image1.png`` and ``Picture 2`` do not."""
    stripped = text.strip()
    return any(letter.isalpha() for letter in stripped) and _SAYS_NOTHING.fullmatch(stripped) is None
