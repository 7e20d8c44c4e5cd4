"""Documents in, passages out: parsing, chunking, embedding, Milvus, sealed blobs."""
