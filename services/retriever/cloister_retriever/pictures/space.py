"""The space of a CLIP model: pictures of a vector store by what they show, apart from its passages.

It is an index like that of passages (`cloister_retriever.index.protocol`), in a collection of its own or in packs of
its own, by the store's protection; and under a key of its own, which comes out of the store's: so a store's secret
rotation, and what its vectors and texts are sealed with, is not that of its pictures.
"""

from collections.abc import Sequence

import numpy as np
from cloister_common.clients.embedder import EmbedderClient
from cloister_common.errors import InvalidRequest
from cloister_common.vault import DataKey

from cloister_retriever.editions import Edition
from cloister_retriever.index.passages import Passage, PassageOwner, passage_id, seal_passage
from cloister_retriever.index.protocol import Entry, Index
from cloister_retriever.index.rotation import Rotations, Vector, normalised
from cloister_retriever.keys import PassageKeyring, PassageKeys, picture_key, picture_place
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.settings import PictureSearchSettings, Protection

__all__ = ["PictureSpace", "ids_of"]

_FIRST_CHARACTERS = 300
_LEAST_CHARACTERS = 8
"""CLIP reads 77 tokens. A longer question is cut to its beginning, and again to half of that until it fits."""


class PictureSpace:
    """Vectors of pictures and of texts about them, and where they are indexed.

    Args:
        model: The CLIP model's public name at the embedder.
        embedder: Has it.
        indexes: Of this space.
        keys: Finds the keys of a file's passages.
        rotations: Makes the stores' rotations.
        settings: What a cosine of this model says.
    """

    def __init__(
        self,
        model: str,
        embedder: EmbedderClient,
        indexes: Indexes,
        keys: PassageKeyring,
        rotations: Rotations,
        settings: PictureSearchSettings,
    ) -> None:
        self._model = model
        self._edition = Edition(model=model)
        self._embedder = embedder
        self._indexes = indexes
        self._keys = keys
        self._rotations = rotations
        self._settings = settings

    async def keys_of(self, tenant: str, key: DataKey, file_id: str) -> PassageKeys | None:
        """What seals the pictures of a file in the store of this key, or None if the file is gone."""
        return await self._keys.get(tenant, picture_key(key, tenant), file_id)

    def index(self, tenant: str, store_id: str, key: DataKey, protection: Protection) -> Index:
        """The index of a store's pictures, for one job or one search."""
        return self._indexes.of(tenant, picture_place(store_id), picture_key(key, tenant), protection, self._edition)

    async def delete(
        self, tenant: str, store_id: str, attachment_id: str | None, protection: Protection | None
    ) -> None:
        """Removes the vectors of a store's pictures, or of one attachment of it."""
        there = picture_place(store_id)
        await self._indexes.delete(tenant, there, attachment_id, protection=protection, edition=self._edition)

    async def of_pictures(self, files: Sequence[bytes], *, bulk: bool) -> Vector:
        """A unit vector for each picture, a row each."""
        return _matrix((await self._embedder.embed_images(self._model, files, bulk=bulk)).vectors)

    async def of_text(self, text: str) -> Vector | None:
        """The unit vector that pictures of what a text says are near to; None if the model reads nothing of it."""
        part = text.strip()[:_FIRST_CHARACTERS]
        while part:
            try:
                vector: Vector = _matrix((await self._embedder.embed_for_images(self._model, [part])).vectors)[0]
                return vector
            except InvalidRequest as error:
                if error.error_code != "context_length_exceeded" or len(part) < _LEAST_CHARACTERS:
                    raise
                part = part[: len(part) // 2].strip()
        return None

    def entries(
        self, keys: PassageKeys, owner: PassageOwner, passages: Sequence[Passage], vectors: Vector
    ) -> list[Entry]:
        """What the index is given for pictures, each with the passage that stands for it."""
        rotated = self._rotations.rotate(keys.rotation, vectors)
        sealed = (seal_passage(keys, owner, *of) for of in zip(passages, vectors, strict=True))
        return [Entry(one, dense, {}) for one, dense in zip(sealed, rotated.tolist(), strict=True)]

    def rotated(self, key: DataKey, tenant: str, vectors: Vector) -> Vector:
        """Questions as the index of a store's pictures is asked them."""
        return self._rotations.rotate(picture_key(key, tenant).subkey("rotation"), vectors)

    def score(self, cosine: float, *, of_picture: bool) -> float:
        """What a cosine says, from 0 to 1.

        Args:
            cosine: Of a picture's vector and a question's.
            of_picture: Whether the question is a picture. CLIP puts texts and pictures into two corners of its space:
                two pictures that have nothing in common are nearer than a picture and the text that describes it.
        """
        least, most = self._settings.picture_cosines if of_picture else self._settings.text_cosines
        return min(max((cosine - least) / (most - least), 0.0), 1.0)


def ids_of(keys: PassageKeys, owner: PassageOwner, positions: Sequence[int]) -> list[str]:
    """The ids of pictures in the index."""
    return [passage_id(keys, owner, position) for position in positions]


def _matrix(vectors: Sequence[bytes]) -> Vector:
    return normalised(np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1))
