"""The keyword half of a search: what of a text is a term, and what of a term may be at rest."""
