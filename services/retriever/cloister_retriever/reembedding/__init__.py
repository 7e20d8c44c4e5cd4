"""Embedding a vector store anew: a second edition beside the one that is searched, compared, switched, given up."""
