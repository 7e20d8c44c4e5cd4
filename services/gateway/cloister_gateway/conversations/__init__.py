"""OpenAI's Conversations API over the sealed, chained item log."""
