"""Search: from a question to passages, over one vector store or several."""
