"""Every kind of file that is read. A new one is a module beside this one and an entry here."""

from cloister_retriever.parsing.kinds.kind import Kind
from cloister_retriever.parsing.kinds.pdf import PDF
from cloister_retriever.parsing.kinds.text import TEXT

__all__ = ["KINDS", "SUPPORTED"]

KINDS: tuple[Kind, ...] = (TEXT, PDF)
"""In the order of the sentence that names them. Each is asked whether a file is its; none claims what another does."""

*_MOST, _LAST = (called for kind in KINDS for called in kind.called)
SUPPORTED = f"{', '.join(_MOST)} and {_LAST}"
"""For the sentence of a refusal."""
