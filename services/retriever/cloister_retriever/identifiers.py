"""The shapes of our ids. An id that has not its shape never reaches a path or a filter expression.

Of what is listed, an id begins with the time it was made, and has 128 random bits behind it: so a list can go on behind
an item that was deleted meanwhile, of which nothing is kept. The time is no secret to anybody who may see the id.
"""

import re
import time

from cloister_common.errors import NotFound
from cloister_common.ids import least_id, new_placed_id

__all__ = [
    "ATTACHMENT_PREFIX",
    "BATCH_PREFIX",
    "FILE_PREFIX",
    "PART_PREFIX",
    "REQUESTS_PREFIX",
    "STORE_PREFIX",
    "UPLOAD_PREFIX",
    "check_id",
    "is_id",
    "least_id",
    "missing",
    "new_placed_id",
    "place_in",
    "places",
]

FILE_PREFIX = "file-"
STORE_PREFIX = "vs_"
BATCH_PREFIX = "vsfb_"
REQUESTS_PREFIX = "batch_"
ATTACHMENT_PREFIX = "vsf_"
UPLOAD_PREFIX = "upload_"
PART_PREFIX = "part_"

_WHAT = {
    FILE_PREFIX: "file",
    STORE_PREFIX: "vector store",
    BATCH_PREFIX: "file batch",
    REQUESTS_PREFIX: "batch",
    UPLOAD_PREFIX: "upload",
    PART_PREFIX: "part",
}
_DIGITS = re.compile(r"[0-9a-f]{48}")
_PLACE_DIGITS = 16

_FIRST_PLACE_NS = 1_735_689_600 * 10**9
"""The year 2025. Ids of the version before begin with random digits, which hardly ever are a time from then to now."""

_SKEW_NS = 3600 * 10**9
"""As far as the clock of another replica may be ahead."""


def check_id(prefix: str, value: str, *, param: str | None = None) -> str:
    """``value``, if it is ``prefix`` and 48 hexadecimal digits. Anything else cannot exist: the same 404."""
    if not is_id(prefix, value):
        raise missing(prefix, value, param=param)
    return value


def is_id(prefix: str, value: str) -> bool:
    """Whether ``value`` has the shape of an id of this kind."""
    return value.startswith(prefix) and _DIGITS.fullmatch(value[len(prefix) :]) is not None


def place_in(value: str) -> int | None:
    """When what has this id was made, in nanoseconds since the epoch; None if the id does not say."""
    digits = value[-48:]
    if not _DIGITS.fullmatch(digits):
        return None
    first, last = places()
    place = int(digits[:_PLACE_DIGITS], 16)
    return place if first <= place <= last else None


def places() -> tuple[int, int]:
    """The first and the last place that an id can say now, both included."""
    return _FIRST_PLACE_NS, time.time_ns() + _SKEW_NS


def missing(prefix: str, value: str, *, param: str | None = None) -> NotFound:
    """The 404 for an unknown id and for another tenant's."""
    shown = "".join(character for character in value[:80] if character.isalnum() or character in "-_")
    return NotFound(f"No such {_WHAT[prefix]}: '{shown}'.", param=param)
