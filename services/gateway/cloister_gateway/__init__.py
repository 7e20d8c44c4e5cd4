"""The only door: identity, stored state, runs and streams, the OpenAI schema."""
