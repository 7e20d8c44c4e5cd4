"""What the embedder's tests share: an encoder without a model, and settings."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cloister_common.wire.embeddings import InputType
from cloister_embedder.models import Encoder, Tokens
from cloister_embedder.settings import EmbedderSettings, ModelSettings

EMBEDDER_TOKEN = "0123456789abcdef" * 4


class FakeEncoder:
    """An encoder whose tokens are words and whose vectors have the word count and a hash in them.

    Attributes:
        batches: The token lengths of every batch so far.
        gate: `encode` waits until it is set; it is at the beginning.
        entered: Released each time `encode` begins.
        failures: Exceptions for the next batches.
    """

    def __init__(
        self, *, max_tokens: int = 256, batch_tokens: int = 4096, dimensions: int = 4, shorter: Sequence[int] = ()
    ) -> None:
        self.max_tokens = max_tokens
        self.batch_tokens = batch_tokens
        self.dimensions = dimensions
        self.shorter = shorter
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.failures: list[Exception] = []

    def prepare(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], input_type: InputType | None = None
    ) -> list[Tokens]:
        return [text_tokens(text if isinstance(text, str) else " ".join(text)) for text in texts]

    def encode(self, batch: Sequence[Tokens]) -> list[bytes]:
        self.batches.append([tokens.length for tokens in batch])
        self.entered.release()
        self.gate.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        return [vector_of(tokens, self.dimensions) for tokens in batch]


def text_tokens(text: str) -> Tokens:
    """One token for each word, from the word's bytes."""
    ids = np.asarray([int.from_bytes(word.encode()[:3], "big") for word in text.split()], np.int32)
    return Tokens(ids.tobytes(), b"", len(ids))


def vector_of(tokens: Tokens, dimensions: int = 4) -> bytes:
    """The vector `FakeEncoder` gives: length, first id, last id, then zeros."""
    ids = np.frombuffer(tokens.ids, np.int32)
    values = [tokens.length, ids[0], ids[-1], *([0] * dimensions)]
    return np.asarray(values[:dimensions], "<f4").tobytes()


def embedder_settings(folder: Path, models: Mapping[str, Mapping[str, Any]], **more: Any) -> EmbedderSettings:
    """Settings with a token file in ``folder``."""
    token_file = folder / "embedder-token"
    token_file.write_text(EMBEDDER_TOKEN)
    return EmbedderSettings.model_validate(
        {
            "server": {"port": 18300, "metrics_port": 18301},
            "token_file": token_file,
            "models": models,
            **more,
        }
    )


class FakeLoader:
    """Gives the encoder of each model once it is released.

    Attributes:
        release: Loading waits for it; set at the beginning.
        failures: Exceptions by model name.
    """

    def __init__(self, encoders: Mapping[str, FakeEncoder]) -> None:
        self.encoders = encoders
        self.release = threading.Event()
        self.release.set()
        self.failures: dict[str, Exception] = {}

    def __call__(self, name: str, _: ModelSettings) -> Encoder[Any]:
        self.release.wait(10)
        if name in self.failures:
            raise self.failures[name]
        return self.encoders[name]
