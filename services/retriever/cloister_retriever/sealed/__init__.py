"""Sealed vector stores: nothing searchable at rest. What they hold lies sealed in packs, and is searched in memory."""
