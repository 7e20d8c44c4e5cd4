"""Runs: one generation each, owned by a lease, written as a sealed event stream, watched from anywhere."""
