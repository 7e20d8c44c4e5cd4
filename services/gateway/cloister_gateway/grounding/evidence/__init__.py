"""Whether a passage supports a sentence: read as words, values and names, and held against each other."""

from cloister_gateway.grounding.evidence.reading import Reading
from cloister_gateway.grounding.evidence.sentences import sentences
from cloister_gateway.grounding.evidence.support import Evidence, Support

__all__ = ["Evidence", "Reading", "Support", "sentences"]
