"""What ``include`` may name: in requests for a response, and in queries for what is stored."""

from typing import Final, Literal, get_args

__all__ = ["IMAGES", "INCLUDABLE", "LOGPROBS", "RESULTS", "SEALED_REASONING", "Included"]

RESULTS: Final = "file_search_call.results"
LOGPROBS: Final = "message.output_text.logprobs"
IMAGES: Final = "message.input_image.image_url"
SEALED_REASONING: Final = "reasoning.encrypted_content"

Included = Literal[
    "file_search_call.results",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
]
"""OpenAI's values. Clients name all they could read, whatever a turn will have: what it does not have is not in it."""

INCLUDABLE: frozenset[str] = frozenset(get_args(Included))
