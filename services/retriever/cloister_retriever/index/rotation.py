"""The secret rotation: what stands between an embedding and what Milvus sees of it.

Each vector store has an orthogonal matrix made from its key. Vectors are multiplied with it before they are stored,
queries before they are searched: inner products stay, so ranking stays, but a model that inverts the public embedding
does not apply. It is obfuscation, not encryption: who knows about as many (text, stored vector) pairs of one store as
the embedding has dimensions can solve for that store's matrix.

The matrix is the Q of a QR decomposition of a Gaussian matrix with the signs of R's diagonal made positive, which is
uniform over the orthogonal group (Mezzadri, "How to generate random matrices from the classical compact groups",
2007) and unique, so every replica and every version of LAPACK gives the same one up to rounding.
"""

import threading
from collections import OrderedDict

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

__all__ = ["Rotations", "Vector", "normalised", "rotation_matrix"]

Vector = NDArray[np.float32]

_CACHED_MATRICES = 64
"""At 384 dimensions 0.6 MB each."""


def rotation_matrix(seed: bytes, dimensions: int) -> Vector:
    """The orthogonal matrix of a 32-byte ``seed``: float32, ``dimensions`` × ``dimensions``."""
    uniform = _uniform(seed, 2 * dimensions * dimensions)
    # Box and Muller's transform: two uniform numbers make one normal one.
    radius = np.sqrt(-2.0 * np.log(uniform[0::2]))
    gaussian = (radius * np.cos(2.0 * np.pi * uniform[1::2])).reshape(dimensions, dimensions)
    q, r = np.linalg.qr(gaussian)
    rotation: Vector = (q * np.sign(np.diagonal(r))).astype(np.float32)
    return rotation


def normalised(vectors: Vector) -> Vector:
    """Each row divided by its length, so that an inner product is a cosine. A zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


class Rotations:
    """Makes matrices once and keeps the ones used last. Safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._matrices: OrderedDict[tuple[bytes, int], Vector] = OrderedDict()

    def rotate(self, seed: bytes, vectors: Vector) -> Vector:
        """``vectors`` (rows of unit length) as Milvus may see them.

        The design's ``standard`` mode also adds keyed noise to *stored* vectors, never to queries; it would be added
        to the result here, seeded per passage. Exact re-scoring already makes the ranking independent of it.
        """
        matrix = self._matrix(seed, vectors.shape[-1])
        return np.ascontiguousarray(vectors @ matrix.T, dtype=np.float32)

    def back(self, seed: bytes, rotated: Vector) -> Vector:
        """What was rotated, as it was before, up to rounding."""
        return np.ascontiguousarray(rotated @ self._matrix(seed, rotated.shape[-1]), dtype=np.float32)

    def _matrix(self, seed: bytes, dimensions: int) -> Vector:
        name = (seed, dimensions)
        with self._lock:
            found = self._matrices.get(name)
            if found is None:
                found = self._matrices[name] = rotation_matrix(seed, dimensions)
            self._matrices.move_to_end(name)
            while len(self._matrices) > _CACHED_MATRICES:
                self._matrices.popitem(last=False)
            return found


def _uniform(seed: bytes, count: int) -> NDArray[np.float64]:
    """``count`` numbers in (0, 1) from AES-256-CTR under ``seed``, 53 random bits each."""
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor().update(bytes(8 * count))
    words = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)
    return (words.astype(np.float64) + 0.5) / 2.0**53
