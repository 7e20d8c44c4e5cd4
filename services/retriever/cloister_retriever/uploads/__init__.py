"""Uploads: a file that comes in parts, each sealed while it streams in."""
