"""The prompt, built on the server out of the server's own state."""

from cloister_gateway.prompt.builder import Prompt, PromptBuilder, PromptTooLongError

__all__ = ["Prompt", "PromptBuilder", "PromptTooLongError"]
