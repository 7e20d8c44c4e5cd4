"""Files that describe the picture beside them: ``photo.jpg.txt``, ``photo.jpg.md`` or ``photo.jpg.json``."""

import json
import re

__all__ = ["SIDECARS", "description_in", "is_picture", "picture_of"]

SIDECARS = (".txt", ".md", ".json")
_PICTURES = re.compile(r"\.(?:png|jpe?g|webp|gif|tiff?)", re.IGNORECASE)
_FIELDS = ("description", "caption", "alt", "title")
"""Of a file in JSON, the first that says anything: photo libraries write them so."""


def picture_of(name: str) -> str | None:
    """The name of the picture that a file of this name describes, or None if it is no such name."""
    stem, dot, ending = name.rpartition(".")
    if f"{dot}{ending.lower()}" not in SIDECARS:
        return None
    return stem if is_picture(stem) else None


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name."""
    kind = name.rfind(".")
    return kind > 0 and _PICTURES.fullmatch(name, kind) is not None


def description_in(name: str, text: str) -> str:
    """What a describing file says, in one paragraph; nothing if it is no such file after all."""
    if name.lower().endswith(".json"):
        try:
            found = json.loads(text)
        except ValueError:
            return ""
        said = (found.get(field) for field in _FIELDS) if isinstance(found, dict) else ()
        text = next((one for one in said if isinstance(one, str) and one.strip()), "")
    return " ".join(text.split())
