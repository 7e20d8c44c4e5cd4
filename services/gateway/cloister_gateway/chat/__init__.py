"""Stateless chat completions: the caller writes the history, nothing is stored."""
