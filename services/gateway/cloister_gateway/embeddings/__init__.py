"""OpenAI's embeddings and reranking, checked here and made by the embedder."""
