"""What the batching needs of a model, and nothing more: so that it can be tested with a fake."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from cloister_common.wire.embeddings import InputType

__all__ = ["Encoder", "ReadsImages", "Tokens"]

R = TypeVar("R")


class Tokens(NamedTuple):
    """One tokenised text, one query with one document, or one picture. Equal tokens have equal results.

    Attributes:
        ids: Token ids, special tokens included, as native int32.
        types: Token type ids in the same form; empty where the model has none or all are zero.
        length: Number of tokens; of a picture that of its patches.
        pixels: Of a picture, as the model takes them (native float32); empty of a text.
    """

    ids: bytes
    types: bytes
    length: int
    pixels: bytes = b""


class Encoder(Protocol[R]):
    """A loaded model. ``R`` is ``bytes`` for vectors (little-endian float32, length 1) and ``float`` for scores."""

    @property
    def max_tokens(self) -> int:
        """The longest input the model reads, special tokens included."""
        ...

    @property
    def dimensions(self) -> int | None:
        """Length of its vectors; None for a reranker."""
        ...

    @property
    def shorter(self) -> Sequence[int]:
        """To how many dimensions its vectors may be cut, ascending; none but of a Matryoshka model."""
        ...

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of one forward pass that suit the device, where the settings name none."""
        ...

    def prepare(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], input_type: InputType | None = None
    ) -> list[Tokens]:
        """Tokenises after the model's prefix for such texts, without cutting. Safe to call from any thread, also while
        `encode` runs.
        """
        ...

    def encode(self, batch: Sequence[Tokens]) -> list[R]:
        """One forward pass over ``batch``, results in its order. Called from one thread at a time."""
        ...


@runtime_checkable
class ReadsImages(Protocol):
    """What an encoder of the kind ``image`` can do besides."""

    def prepare_images(self, images: Sequence[bytes]) -> list[Tokens]:
        """Decodes files of images. Safe to call from any thread.

        Raises:
            UnreadableImage: One cannot be read; its place is the first argument.
        """
        ...
