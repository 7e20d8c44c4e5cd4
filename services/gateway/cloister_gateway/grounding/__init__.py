"""From passages to citations: what is searched for, how it enters a prompt, and what an answer may cite of it."""

from cloister_gateway.grounding.attribution import attribute
from cloister_gateway.grounding.excerpts import Passage, documents_turn
from cloister_gateway.grounding.markers import MarkerFilter, Piece

__all__ = ["MarkerFilter", "Passage", "Piece", "attribute", "documents_turn"]
