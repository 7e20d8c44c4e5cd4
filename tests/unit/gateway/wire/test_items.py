"""Items as messages of a chat."""

from typing import Any

from cloister_gateway.wire.items import item_messages


def test_items_become_messages_that_templates_know() -> None:
    def message(role: str, *texts: str) -> dict[str, Any]:
        return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text} for text in texts]}

    given_items = [
        message("developer", "a"),
        message("user", "b", "c"),
        message("user", ""),
        {"type": "file_search_call"},
    ]
    assert item_messages(given_items) == [{"role": "system", "content": "a"}, {"role": "user", "content": "bc"}]
