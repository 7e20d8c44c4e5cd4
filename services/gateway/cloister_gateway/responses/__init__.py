"""OpenAI's Responses API: one turn, with its state on the server."""
