"""An image as models are given it: what ``POST /internal/image`` of the retriever gives, and its bounds.

POST /internal/image?file_id=…&detail=high    an uploaded file
POST /internal/image?detail=low               the image is the body

What comes out was decoded and encoded anew, with nothing in it but its pixels.
"""

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["EDGES", "MOST_IMAGE_BYTES", "MOST_IMAGE_FILE_BYTES", "MOST_PIXELS", "Detail", "ReadImage"]

Detail = Literal["auto", "low", "high", "original"]
"""OpenAI's word for how closely an image is looked at. Here, how large it stays; models cut it further as they do."""

EDGES: dict[Detail, int] = {"auto": 2048, "low": 512, "high": 2048, "original": 4096}
"""The longest side of what comes out, in pixels."""

MOST_IMAGE_FILE_BYTES = 20 * 1024 * 1024
"""Of what goes in, as it was sent or uploaded."""

MOST_PIXELS = 50_000_000
"""Of what goes in: what a telephone takes. Decoded, it has 200 MB."""

MOST_IMAGE_BYTES = 1536 * 1024
"""Of what comes out: an item of a conversation has 2 MiB with it."""


class ReadImage(BaseModel):
    """An image.

    Attributes:
        file_id: The uploaded file, if it was one.
        url: The image as a data URL, a PNG or JPEG.
        width, height: Its pixels.
    """

    file_id: str | None = None
    url: str = Field(pattern=r"^data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}$")
    width: int = Field(gt=0)
    height: int = Field(gt=0)
