"""What ``include`` may name: in requests for a response, and in queries for what is stored."""

from typing import Final, Literal, get_args

__all__ = ["INCLUDABLE", "LOGPROBS", "RESULTS", "Included"]

RESULTS: Final = "file_search_call.results"
LOGPROBS: Final = "message.output_text.logprobs"

Included = Literal[
    "file_search_call.results",
    "message.output_text.logprobs",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]
"""OpenAI's values. Clients name all they could read, whatever a turn will have: what it does not have is not in it."""

INCLUDABLE: frozenset[str] = frozenset(get_args(Included))
