"""Vectors from a sentence-transformers model: SBERT for texts, CLIP for texts and pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from cloister_common.wire.embeddings import InputType

from cloister_embedder.models.encoder import Tokens
from cloister_embedder.models.images import ImageReader
from cloister_embedder.models.tokenizer import TextTokenizer

__all__ = ["VectorEncoder", "shortened"]


class VectorEncoder:
    """A loaded ``SentenceTransformer`` that takes tokens and gives normalised float32 vectors.

    Args:
        model: The model, in evaluation mode, on its device.
        tokenizer: Its tokenizer.
        max_tokens: The longest input, special tokens included.
        dimensions: The length of its vectors.
        shorter: To how many dimensions they may be cut.
        images: Reads pictures, where the model takes some.

    Attributes:
        batch_tokens: Padded tokens of one forward pass that suit the machine; whoever loads it measures and sets them.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: TextTokenizer,
        *,
        max_tokens: int,
        dimensions: int,
        shorter: Sequence[int],
        images: ImageReader | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self.batch_tokens = 0
        self._dimensions = dimensions
        self._shorter = shorter
        self._images = images

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def shorter(self) -> Sequence[int]:
        return self._shorter

    def prepare(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], input_type: InputType | None = None
    ) -> list[Tokens]:
        return self._tokenizer.prepare(texts, input_type)

    def prepare_images(self, images: Sequence[bytes]) -> list[Tokens]:
        assert self._images is not None, "asked of models of the kind image only"
        return self._images.prepare(images)

    def encode(self, batch: Sequence[Tokens]) -> list[bytes]:
        """One vector for each text or picture: ``dimensions`` little-endian float32 of Euclidean length 1.

        Raises:
            ArithmeticError: The model gave something that is not a number.
        """
        import torch

        vectors: list[bytes] = [b""] * len(batch)
        for modality in ("text", "image"):
            places = [place for place, one in enumerate(batch) if bool(one.pixels) == (modality == "image")]
            if places:
                features = self._features([batch[place] for place in places], modality)
                with torch.inference_mode():
                    # Normalised in float32 also where the model computes in bfloat16, whose lengths are off by 0.4 %.
                    made = torch.nn.functional.normalize(self._model(features)["sentence_embedding"].float(), dim=1)
                    if not bool(torch.isfinite(made).all()):
                        raise ArithmeticError("the model's vectors are not finite")
                    rows = made.cpu().numpy().astype("<f4", copy=False)
                for place, row in zip(places, rows, strict=True):
                    vectors[place] = row.tobytes()
        return vectors

    def _features(self, batch: Sequence[Tokens], modality: str) -> dict[str, Any]:
        """What the model is given: texts and pictures go through different sides of it, and so not together."""
        import torch

        if modality == "image":
            assert self._images is not None
            pixels = torch.from_numpy(self._images.pixels(batch)).to(self._model.device, self._model.dtype)
            return {"pixel_values": pixels, "modality": modality}
        arrays = self._tokenizer.pad(batch)
        features: dict[str, Any] = {
            key: torch.from_numpy(array).to(self._model.device) for key, array in arrays.items()
        }
        return {**features, "modality": modality}


def shortened(vectors: Sequence[bytes], dimensions: int) -> list[bytes]:
    """The first ``dimensions`` of each vector, of length 1 again.

    So a Matryoshka model is used, whose first dimensions say most (Kusupati et al., arXiv:2205.13147). 2,048 vectors of
    1,024 dimensions take some milliseconds.
    """
    rows = np.frombuffer(b"".join(vectors), "<f4").reshape(len(vectors), -1)[:, :dimensions]
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return [row.tobytes() for row in (rows / np.where(lengths, lengths, 1)).astype("<f4", copy=False)]
