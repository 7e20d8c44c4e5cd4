"""From passages to citations: what is searched for, how it enters a prompt, and what an answer may cite of it."""

from cloister_gateway.grounding.attribution import Attribution, Mark, attribute
from cloister_gateway.grounding.excerpts import NOTHING, Coverage, Passage, Shown, documents_turn
from cloister_gateway.grounding.markers import MarkerFilter, Piece
from cloister_gateway.grounding.search import DEFAULT_RESULTS, FileSearch, Retrieval

__all__ = [
    "DEFAULT_RESULTS",
    "NOTHING",
    "Attribution",
    "Coverage",
    "FileSearch",
    "Mark",
    "MarkerFilter",
    "Passage",
    "Piece",
    "Retrieval",
    "Shown",
    "attribute",
    "documents_turn",
]
