"""From messages to token ids: conceal, render, cut, encode."""

from collections.abc import Callable, Mapping
from typing import Any

from cloister_common.errors import CloisterError, InvalidRequest

from cloister_llm.rendering.encoder import PieceEncoder
from cloister_llm.rendering.markers import Markers
from cloister_llm.rendering.pieces import Piece, cut
from cloister_llm.rendering.returned import WITH, WITHOUT
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

    def shows_returned(self, apply_template: ApplyTemplate) -> bool:
        """Whether the template writes a placeholder for an image that a tool returned, at its place."""
        try:
            without, having = (self.render(chat, None, {}, apply_template) for chat in (WITHOUT, WITH))
        except (CloisterError, ValueError):
            return False  # It takes no such turn.
        return self._placeholders(having) > self._placeholders(without)

    def _placeholders(self, ids: list[int]) -> int:
        return sum(token in self.encoder.control_ids for token in ids)

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
