"""Completions of plain texts: no chat, no template, nothing stored. For the tools that still ask in this way."""
