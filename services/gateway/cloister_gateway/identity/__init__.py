"""Who calls, and what they may do: projects, service accounts, API keys.

Re-exports nothing: the guard needs FastAPI, and the command line, which needs the rest, starts without it.
"""
