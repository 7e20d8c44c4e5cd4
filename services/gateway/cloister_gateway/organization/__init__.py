"""Administration in OpenAI's schema: projects, accounts and keys."""
