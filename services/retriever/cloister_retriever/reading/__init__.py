"""Files that are read for one turn: their text, and nothing kept of it here."""
