"""Pictures of passages: which are fetched, how large they may be, and which of them fit a prompt."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from cloister_common.caller import NOBODY
from cloister_common.clients.retriever import Picture, RetrieverClient
from cloister_common.errors import NotFound, Unavailable
from cloister_common.wire.images import MOST_IMAGE_BYTES, ReadImage
from cloister_common.wire.search import FoundImage
from cloister_gateway.grounding import Passage, Shown
from cloister_gateway.grounding.pictures import pictures_of
from cloister_gateway.prompt import Prompt, PromptBuilder
from cloister_gateway.wire.items import Message, images_of, text_of

SMALLER = "data:image/jpeg;base64,c21hbGxlcg=="


def passage(name: str, picture: int | None) -> Passage:
    image = None if picture is None else FoundImage(file_id="file-1", index=picture, url=f"/{picture}")
    return Passage("file-1", "a.pdf", 0.9, name, None, None, None, image)


class Retriever:
    """Has the pictures of ``contents``, or raises what stands there."""

    def __init__(self, **contents: bytes | Exception) -> None:
        self._contents = contents
        self.asked: list[str] = []

    async def picture(self, tenant: str, image: FoundImage, *, caller: Any) -> Picture:
        self.asked.append(image.url)
        content = self._contents[f"_{image.index}"]
        if isinstance(content, Exception):
            raise content
        return Picture("image/png", content)

    async def image(self, tenant: str, *, content: bytes, caller: Any) -> ReadImage:
        return ReadImage(url=SMALLER, width=1, height=1)


async def shown(retriever: Retriever, passages: list[Passage], most: int = 9, characters: int = 10**9) -> list[Shown]:
    client = cast("RetrieverClient", retriever)
    return await pictures_of(client, "t", passages, NOBODY, most=most, characters=characters)


async def test_no_more_are_fetched_than_may_be_shown_and_each_once() -> None:
    retriever = Retriever(_0=b"a", _1=b"b", _2=b"c")
    passages = [passage("x", None), passage("a", 0), passage("b", 0), passage("c", 1), passage("d", 2)]
    assert [one.place for one in await shown(retriever, passages, most=2)] == [1, 3]
    assert retriever.asked == ["/0", "/1"]
    assert await shown(retriever, passages, most=0) == await shown(retriever, passages, most=-1) == []


@pytest.mark.parametrize("error", [NotFound("gone"), Unavailable("away")])
async def test_what_cannot_be_fetched_is_left_out(error: Exception) -> None:
    passages = [passage("a", 0), passage("b", 1)]
    assert [one.place for one in await shown(Retriever(_0=error, _1=b"b"), passages)] == [1]


async def test_a_large_one_is_made_smaller_and_what_is_beyond_the_room_left_out() -> None:
    passages = [passage("a", 0), passage("b", 1), passage("c", 2)]
    retriever = Retriever(_0=bytes(MOST_IMAGE_BYTES + 1), _1=bytes(3_000), _2=b"c")
    found = await shown(retriever, passages, characters=2_000)
    assert [one.place for one in found] == [0, 2]
    assert found[0].url == SMALLER


async def test_one_that_does_not_come_in_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Retriever):
        async def picture(self, tenant: str, image: FoundImage, *, caller: Any) -> Picture:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("cloister_gateway.grounding.pictures._SECONDS", 0.01)
    assert await shown(Silent(), [passage("a", 0)]) == []


async def counted(messages: Sequence[Message]) -> int:
    """A hundred a picture, and one a word."""
    return sum(len(text_of(one).split()) + 100 * len(images_of(one)) for one in messages)


async def built(budget: int, pictures: list[Shown], **options: Any) -> Prompt:
    passages = [passage("first " * 20, 0), passage("second " * 20, 1)]
    new = [{"role": "user", "content": "What is it?"}]
    builder = PromptBuilder(counted, budget=budget)
    return await builder.build(
        instructions=None, history=[], passages=passages, new=new, pictures=pictures, drop=True, **options
    )


@pytest.mark.parametrize(("budget", "fitting"), [(1000, 2), (500, 1), (300, 0)])
async def test_a_picture_takes_no_passages_place(budget: int, fitting: int) -> None:
    prompt = await built(budget, [Shown(0, "data:,a"), Shown(1, "data:,b")])
    assert len(prompt.passages) == 2
    assert [url for one in prompt.messages for url in images_of(one)] == ["data:,a", "data:,b"][:fitting]
    assert await counted(prompt.messages) <= budget


async def test_a_picture_goes_with_its_passage() -> None:
    prompt = await built(190, [Shown(1, "data:,b")])
    assert len(prompt.passages) == 1
    assert not any(images_of(one) for one in prompt.messages)
