"""Model folders: checking, loading, tokenising and running them. The only package that touches torch."""

from cloister_embedder.models.encoder import Encoder, Tokens
from cloister_embedder.models.folder import check_folder
from cloister_embedder.models.loading import load_encoder
from cloister_embedder.models.vectors import shortened

__all__ = ["Encoder", "Tokens", "check_folder", "load_encoder", "shortened"]
