"""From messages to token ids: conceal, render, cut, encode."""

from collections.abc import Callable, Mapping
from typing import Any

from cloister_common.errors import InvalidRequest

from cloister_llm.rendering.encoder import PieceEncoder
from cloister_llm.rendering.markers import Markers
from cloister_llm.rendering.pieces import Piece, cut
from cloister_llm.rendering.vocabulary import ROLES, TEMPLATE_WORDS, is_word

__all__ = ["ApplyTemplate", "ChatRenderer"]

ApplyTemplate = Callable[[list[dict[str, Any]], list[dict[str, Any]] | None], str]
"""Renders the model's chat template with the given messages and tools to text."""


class ChatRenderer:
    """Renders chats for one tokenizer."""

    def __init__(self, encoder: PieceEncoder) -> None:
        self.encoder = encoder

    def render(
        self,
        conversation: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        variables: Mapping[str, Any],
        apply_template: ApplyTemplate,
    ) -> list[int]:
        """The prompt's token ids.

        Args:
            conversation: Messages as chat templates take them: role, content (text or text parts), tool calls.
            tools: Tool definitions, in OpenAI's schema.
            variables: What else the template gets; only checked here.
            apply_template: The template, with those variables bound.

        Raises:
            InvalidRequest: A role or a variable that is no known word, or a template that alters its input.
        """
        return self.encoder.encode(self.pieces(conversation, tools, variables, apply_template))

    def pieces(
        self,
        conversation: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        variables: Mapping[str, Any],
        apply_template: ApplyTemplate,
    ) -> list[Piece]:
        """As `render`, before tokenising."""
        for at, message in enumerate(conversation):
            if not is_word(message.get("role"), ROLES):
                raise InvalidRequest(
                    f"Invalid value for 'messages[{at}].role': must be one of {', '.join(sorted(ROLES))}.",
                    param=f"messages[{at}].role",
                    code="invalid_value",
                )
        for name, value in variables.items():
            if not _is_plain(value):
                raise InvalidRequest(f"The template variable '{name}' has a value that is no known word.", param=name)
        markers = Markers(conversation, tools)
        rendered = apply_template(markers.conceal(conversation), markers.conceal(tools))
        return cut(rendered, markers)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or is_word(value, TEMPLATE_WORDS)
