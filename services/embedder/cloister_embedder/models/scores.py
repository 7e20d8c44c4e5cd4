"""Relevance scores from a cross-encoder, which reads a query and a document together."""

from collections.abc import Sequence
from typing import Any

from cloister_common.wire.embeddings import InputType

from cloister_embedder.models.encoder import Tokens
from cloister_embedder.models.tokenizer import TextTokenizer

__all__ = ["ScoreEncoder"]


class ScoreEncoder:
    """A loaded ``CrossEncoder`` with one output that takes tokenised pairs and gives scores between 0 and 1.

    Args:
        model: The model, in evaluation mode, on its device.
        tokenizer: Its tokenizer.
        max_tokens: The longest query and document together, special tokens included.

    Attributes:
        batch_tokens: Padded tokens of one forward pass that suit the machine; whoever loads it measures and sets them.
    """

    def __init__(self, model: Any, tokenizer: TextTokenizer, *, max_tokens: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self.batch_tokens = 0

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    @property
    def dimensions(self) -> None:
        return None

    @property
    def shorter(self) -> Sequence[int]:
        return ()

    def prepare(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], input_type: InputType | None = None
    ) -> list[Tokens]:
        return self._tokenizer.prepare(texts, input_type)

    def encode(self, batch: Sequence[Tokens]) -> list[float]:
        """The sigmoid of the model's logit for each pair, whatever activation the folder names.

        Some folders say sigmoid and some say identity; callers need one scale to set a threshold on.

        Raises:
            ArithmeticError: The model gave something that is not a number.
        """
        import torch

        features: dict[str, Any] = {
            key: torch.from_numpy(array).to(self._model.device) for key, array in self._tokenizer.pad(batch).items()
        }
        features["modality"] = "text"
        with torch.inference_mode():
            scores = torch.sigmoid(self._model(features)["scores"].float().reshape(len(batch)))
            if not bool(torch.isfinite(scores).all()):
                raise ArithmeticError("the model's scores are not finite")
            return [float(score) for score in scores.cpu()]
