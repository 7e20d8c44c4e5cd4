"""Images in prompts: how many stay, what they count as, and what is searched and shown of them."""

from collections.abc import Sequence
from typing import Any

import pytest
from cloister_gateway.grounding import Retrieval
from cloister_gateway.prompt import History, ImageRoom, PromptBuilder, TooManyImagesError
from cloister_gateway.prompt.history import upper_bound
from cloister_gateway.wire.items import Message, image_part, images_of, item_messages, shown, text_of


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": list(parts)}


def says(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def shows(name: str) -> dict[str, Any]:
    return image_part(f"data:image/png;base64,{name}", None, "auto")


def asked(name: str) -> list[Message]:
    return [*item_messages([message(shows(name), says(name))]), {"role": "assistant", "content": "ok"}]


async def one_each(messages: Sequence[Message]) -> int:
    return len(messages)


async def kept(history: list[Message], new: list[Message], room: ImageRoom, *, drop: bool = True) -> list[str]:
    builder = PromptBuilder(one_each, budget=1000)
    prompt = await builder.build(instructions=None, history=history, passages=[], new=new, drop=drop, images=room)
    return [text_of(one) for one in prompt.messages if one["role"] == "user"]


def test_a_message_has_its_images_and_texts_in_order() -> None:
    (found,) = item_messages([message(says("a"), shows("b"), says(""), says("c"))])
    assert [part["type"] for part in found["content"]] == ["text", "image_url", "text"]
    assert text_of(found) == "ac"
    assert images_of(found) == ["data:image/png;base64,b"]


def test_an_image_alone_is_a_message() -> None:
    (found,) = item_messages([message(shows("b"))])
    assert images_of(found) == ["data:image/png;base64,b"]


def test_the_data_of_an_image_is_shown_to_those_who_ask() -> None:
    item = message(shows("b"), says("c"))
    assert shown(item)["content"] == [{"type": "input_image", "detail": "auto"}, says("c")]
    assert shown(item, images=True)["content"][0]["image_url"] == "data:image/png;base64,b"


def test_an_image_counts_as_more_tokens_than_any_model_makes_of_it() -> None:
    (with_image,), (without,) = item_messages([message(shows("b"), says("c"))]), item_messages([message(says("c"))])
    assert upper_bound([with_image]) > upper_bound([without]) + 21_000


def test_a_search_is_for_the_words() -> None:
    assert Retrieval.queries(item_messages([message(shows("b"), says("What is it?"))])) == ["What is it?"]


async def test_the_oldest_turns_go_where_images_are_too_many() -> None:
    history = [*asked("1"), {"role": "user", "content": "2"}, {"role": "assistant", "content": "ok"}, *asked("3")]
    new = item_messages([message(shows("4"), says("4"))])
    assert await kept(history, new, ImageRoom(3, 10_000)) == ["1", "2", "3", "4"]
    assert await kept(history, new, ImageRoom(2, 10_000)) == ["2", "3", "4"]
    assert await kept(history, new, ImageRoom(1, 10_000)) == ["4"]
    size = len(images_of(new[0])[0])
    assert await kept(history, new, ImageRoom(9, 2 * size)) == ["2", "3", "4"]


async def test_nothing_is_left_out_of_what_must_stay() -> None:
    new = item_messages([message(shows("4"), shows("5"))])
    with pytest.raises(TooManyImagesError):
        await kept([], new, ImageRoom(1, 10_000))
    with pytest.raises(TooManyImagesError):
        await kept(asked("1"), new, ImageRoom(2, 10_000), drop=False)
    assert await kept([{"role": "user", "content": "1"}], [{"role": "user", "content": "2"}], ImageRoom(0, 0)) == [
        "1",
        "2",
    ]


def test_a_history_knows_where_its_images_are() -> None:
    history = History.of([*asked("1"), {"role": "user", "content": "2"}, *asked("3")])
    assert [text_of(one) for one in history.seen_from(0)] == ["1", "3"]
    assert [text_of(one) for one in history.seen_from(1)] == ["3"]
    assert history.image_characters == 2 * len("data:image/png;base64,1")
