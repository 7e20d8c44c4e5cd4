"""The prompt, built on the server out of the server's own state."""

from cloister_gateway.prompt.builder import (
    Prompt,
    PromptBuilder,
    PromptTooLongError,
    TooManyImagesError,
    dropped_in_steps,
    new_boundary,
)
from cloister_gateway.prompt.history import History, ImageRoom, Said
from cloister_gateway.prompt.parts import Layout, Parts, counted

__all__ = [
    "History",
    "ImageRoom",
    "Layout",
    "Parts",
    "Prompt",
    "PromptBuilder",
    "PromptTooLongError",
    "Said",
    "TooManyImagesError",
    "counted",
    "dropped_in_steps",
    "new_boundary",
]
