"""The prompt, built on the server out of the server's own state."""

from cloister_gateway.prompt.builder import Prompt, PromptBuilder, PromptTooLongError
from cloister_gateway.prompt.documents import Passage, documents_turn

__all__ = ["Passage", "Prompt", "PromptBuilder", "PromptTooLongError", "documents_turn"]
