"""Retrieval quality and search latency of the real retriever."""
