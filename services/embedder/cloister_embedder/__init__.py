"""SBERT text vectors, CLIP image vectors and reranking behind OpenAI's schema."""
