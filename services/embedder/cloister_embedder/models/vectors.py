"""Vectors from a sentence-transformers model: SBERT for texts, and the text side of CLIP."""

from collections.abc import Sequence
from typing import Any

from cloister_embedder.models.encoder import Tokens
from cloister_embedder.models.tokenizer import TextTokenizer

__all__ = ["VectorEncoder"]


class VectorEncoder:
    """A loaded ``SentenceTransformer`` that takes tokens and gives normalised float32 vectors.

    Args:
        model: The model, in evaluation mode, on its device.
        tokenizer: Its tokenizer.
        max_tokens: The longest input, special tokens included.
        dimensions: The length of its vectors.
        batch_tokens: Padded tokens of one forward pass that suit the device.
    """

    def __init__(
        self, model: Any, tokenizer: TextTokenizer, *, max_tokens: int, dimensions: int, batch_tokens: int
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._dimensions = dimensions

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def batch_tokens(self) -> int:
        return self._batch_tokens

    def prepare(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Tokens]:
        return self._tokenizer.prepare(texts)

    def encode(self, batch: Sequence[Tokens]) -> list[bytes]:
        """One vector for each text: ``dimensions`` little-endian float32 of Euclidean length 1.

        Raises:
            ArithmeticError: The model gave something that is not a number.
        """
        import torch

        features: dict[str, Any] = {
            key: torch.from_numpy(array).to(self._model.device) for key, array in self._tokenizer.pad(batch).items()
        }
        features["modality"] = "text"
        with torch.inference_mode():
            # Normalised in float32 also where the model computes in bfloat16, whose lengths are off by 0.4 %.
            vectors = torch.nn.functional.normalize(self._model(features)["sentence_embedding"].float(), dim=1)
            if not bool(torch.isfinite(vectors).all()):
                raise ArithmeticError("the model's vectors are not finite")
            rows = vectors.cpu().numpy().astype("<f4", copy=False)
        return [row.tobytes() for row in rows]
