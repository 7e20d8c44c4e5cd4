"""The index: what Milvus holds, and the only code that speaks to it."""
