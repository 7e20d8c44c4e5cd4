"""Pictures as a CLIP model reads them: decoded under limits, and made the array of numbers that it was trained on.

What comes here was sent by callers. Pillow's decoders for four kinds are used and no others, a picture's size is
looked at before its pixels are, and of one that moves the first frame counts.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from cloister_common.wire.pictures import media_type_of

from cloister_embedder.models.encoder import Tokens

__all__ = ["MOST_PIXELS", "ImageReader", "UnreadableImage"]

MOST_PIXELS = 50_000_000
"""Of one picture: what a good camera makes. Decoded, that is 150 MB for a moment."""

_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}
_FIRST_SIDE = 1024
"""A larger one is made this small by its decoder, where that can: the model sees a few hundred pixels."""


class UnreadableImage(Exception):
    """It is no image, is damaged, or has too many pixels."""


class ImageReader:
    """Makes the inputs of a model's vision side. Safe to call from any thread.

    Args:
        processor: The image processor of the model's folder.
        tokens: What one picture counts as in batches and usage: the patches that the model sees.
    """

    def __init__(self, processor: Any, *, tokens: int) -> None:
        self._processor = processor
        self._tokens = tokens
        self._shape: tuple[int, ...] = ()
        """Of every picture: channels, height, width."""

    def prepare(self, images: Sequence[bytes]) -> list[Tokens]:
        """One input for each file.

        Raises:
            UnreadableImage: One cannot be read; its place is the first argument.
        """
        return [self._prepared(place, content) for place, content in enumerate(images)]

    def pixels(self, batch: Sequence[Tokens]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """The inputs of a batch: (images, channels, height, width), float32."""
        return np.stack([np.frombuffer(one.pixels, np.float32) for one in batch]).reshape(len(batch), *self._shape)

    def _prepared(self, place: int, content: bytes) -> Tokens:
        from PIL import Image  # comes with the models

        try:
            with Image.open(io.BytesIO(content), formats=[_FORMATS[media_type_of(content) or ""]]) as image:
                image.draft("RGB", (_FIRST_SIDE, _FIRST_SIDE))
                rgb = image.convert("RGB") if image.width * image.height <= MOST_PIXELS else None
        except Exception as error:  # whatever a decoder raises for what is damaged: OSError, SyntaxError, ValueError
            raise UnreadableImage(place) from error
        if rgb is None:
            raise UnreadableImage(place)
        pixels = np.asarray(self._processor(images=[rgb], return_tensors="np")["pixel_values"][0], np.float32)
        self._shape = pixels.shape
        return Tokens(b"", b"", self._tokens, pixels.tobytes())
