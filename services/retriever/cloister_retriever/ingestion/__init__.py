"""Ingestion: the durable queue, the workers, and the way of a file from bytes to passages in the index."""
