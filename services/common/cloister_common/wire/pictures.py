"""Images in requests: OpenAI's content part with a data URL, which is the only address that is ever read.

    {"type": "input_image", "image_url": "data:image/png;base64,…"}            as the Responses API has it
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}     as chat completions have it

Nothing here decodes a picture: what the bytes begin with is compared with the four kinds that are taken, and that is
all. Whoever decodes them does so within limits of his own.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from cloister_common.errors import InvalidRequest

__all__ = ["DATA_URL", "data_url", "image_bytes", "image_url_of", "media_type_of", "unreadable_image"]

DATA_URL = "data:image/"
_LEAST_BYTES = 26
"""No picture of any of these kinds is shorter."""


def image_url_of(part: Any) -> str | None:
    """The address in a content part that is an image's, or None for anything else."""
    if not isinstance(part, Mapping) or part.get("type") not in {"input_image", "image_url"}:
        return None
    url = part.get("image_url")
    if isinstance(url, Mapping):
        url = url.get("url")
    return url if isinstance(url, str) else None


def data_url(content: bytes) -> str:
    """An image's file as such an address."""
    kind = media_type_of(content) or "image/png"
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def image_bytes(url: str, param: str) -> bytes:
    """The file in a data URL of an image.

    Raises:
        InvalidRequest: It leads elsewhere, is not base64, or is no PNG, JPEG, WebP or GIF; it names ``param``.
    """
    head, comma, encoded = url.partition(",")
    if not head.startswith(DATA_URL) or not head.endswith(";base64") or not comma:
        raise InvalidRequest(
            f"'{param}' must be an image as a data URL in base64: nothing is fetched from elsewhere. Send "
            "'data:image/png;base64,' and the file.",
            param=param,
            code="invalid_image_url",
        )
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise unreadable_image(param) from error
    if media_type_of(content) is None or len(content) < _LEAST_BYTES:
        raise unreadable_image(param)
    return content


def media_type_of(content: bytes) -> str | None:
    """What kind of image a file begins like, of those that are taken."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    return None


def unreadable_image(param: str) -> InvalidRequest:
    """The error of an image that is damaged, or of a kind that is not taken."""
    return InvalidRequest(
        f"'{param}' is no image that can be read. Send a whole PNG, JPEG, WebP or GIF.",
        param=param,
        code="invalid_image_format",
    )
