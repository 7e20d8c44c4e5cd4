"""Vector stores: which files are searched together, and how far their ingestion is."""
