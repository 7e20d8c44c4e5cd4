"""Citations that are right: every one points at a passage that was really retrieved."""

from cloister_gateway.citations.attribution import attribute
from cloister_gateway.citations.markers import MarkerFilter, Piece

__all__ = ["MarkerFilter", "Piece", "attribute"]
