"""Parsing: bytes of unknown origin in, text with pages, sections and passages out, in a confined child process."""
