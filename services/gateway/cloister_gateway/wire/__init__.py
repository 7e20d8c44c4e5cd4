"""The wire: strict models, items, lists, queries, slow readers, and faults in OpenAI's shape."""
