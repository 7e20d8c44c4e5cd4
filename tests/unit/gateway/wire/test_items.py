"""Items as messages of a chat."""

from typing import Any

from cloister_gateway.wire.items import item_messages, shown, shows_images


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


class Endless(str):
    """A text that is too long to be gone through."""

    __slots__ = ()

    def __iter__(self) -> Any:
        raise AssertionError("each character of it is looked at")


def test_a_text_that_a_function_returned_is_not_gone_through_for_images() -> None:
    returned = {"type": "function_call_output", "call_id": "call_a", "output": Endless("an image, in turn")}
    assert shown(returned) is returned
    assert not shows_images([returned])
