"""Model folders: checking, loading, tokenising and running them. The only package that touches torch."""

from cloister_embedder.models.encoder import Encoder, ReadsImages, Tokens
from cloister_embedder.models.folder import check_folder
from cloister_embedder.models.images import UnreadableImage
from cloister_embedder.models.loading import load_encoder
from cloister_embedder.models.vectors import shortened

__all__ = [
    "Encoder",
    "ReadsImages",
    "Tokens",
    "UnreadableImage",
    "check_folder",
    "load_encoder",
    "shortened",
]
