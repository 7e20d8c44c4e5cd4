"""OpenAI's published schema as facts, and whether what a gateway sends keeps to them."""
