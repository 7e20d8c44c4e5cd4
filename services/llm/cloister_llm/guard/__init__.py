"""What stands before vLLM's routes: `rules` says what a request may be, `middleware` enforces it."""
