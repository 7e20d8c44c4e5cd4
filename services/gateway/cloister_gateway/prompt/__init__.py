"""The prompt, built on the server out of the server's own state."""

from cloister_gateway.prompt.builder import Prompt, PromptBuilder, PromptTooLongError, new_boundary
from cloister_gateway.prompt.history import History, Said

__all__ = ["History", "Prompt", "PromptBuilder", "PromptTooLongError", "Said", "new_boundary"]
