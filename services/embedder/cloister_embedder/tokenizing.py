"""Tokenising off the event loop, in small groups, so that a query is not stuck behind the tokens of an upload."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from cloister_common.errors import InvalidRequest
from cloister_common.wire.embeddings import InputType, too_long
from cloister_common.wire.pictures import unreadable_image

from cloister_embedder.models import Encoder, ReadsImages, Tokens, UnreadableImage

__all__ = ["prepare", "prepare_inputs"]

_GROUP_TEXTS = 128
"""Texts tokenised before another request gets its turn: some milliseconds."""

_GROUP_CHARACTERS = 1 << 18
"""A token takes the tokenizer 400 bytes for a moment: 100 MB for a group, where a request could be 16 MiB of text."""

_CHARACTERS_OF_A_TOKEN = 16
"""On average over a whole text; English has four or five."""


async def prepare(
    encoder: Encoder[Any],
    texts: Sequence[str] | Sequence[tuple[str, str]],
    executor: Executor,
    field: Callable[[int], str],
    input_type: InputType | None = None,
) -> list[Tokens]:
    """The tokens of ``texts``.

    Args:
        encoder: The model that will read them.
        texts: Texts or pairs.
        executor: Threads to tokenise in.
        field: The name of the i-th text in the request, for the error.
        input_type: What the texts are, for the model's prefix.

    Raises:
        InvalidRequest: A text is longer than the model reads; it is named, with its length and the limit.
    """
    loop = asyncio.get_running_loop()
    longest = max(_GROUP_CHARACTERS, encoder.max_tokens * _CHARACTERS_OF_A_TOKEN)
    prepared: list[Tokens] = []
    while (start := len(prepared)) < len(texts):
        end = _end_of_group(texts, start)
        if (characters := _characters(texts[start])) > longest:
            raise InvalidRequest(
                f"'{field(start)}' has {characters} characters; the model reads at most {encoder.max_tokens} tokens. "
                "Split the text.",
                param=field(start),
                code="context_length_exceeded",
            )
        prepared += await loop.run_in_executor(executor, encoder.prepare, texts[start:end], input_type)
        for index in range(start, end):
            if prepared[index].length > encoder.max_tokens:
                raise too_long(field(index), tokens=prepared[index].length, limit=encoder.max_tokens)
    return prepared


async def prepare_inputs(
    encoder: Encoder[Any],
    inputs: Sequence[str | bytes],
    executor: Executor,
    field: Callable[[int], str],
    input_type: InputType | None = None,
) -> list[Tokens]:
    """As `prepare`, of texts and of files of images.

    Raises:
        InvalidRequest: Also of an image that cannot be read.
    """
    texts = [place for place, one in enumerate(inputs) if isinstance(one, str)]
    prepared = await prepare(
        encoder, [str(inputs[place]) for place in texts], executor, lambda index: field(texts[index]), input_type
    )
    found = dict(zip(texts, prepared, strict=True))
    loop = asyncio.get_running_loop()
    for place, one in enumerate(inputs):
        if isinstance(one, bytes):
            assert isinstance(encoder, ReadsImages), "a model of another kind was asked for images"
            try:
                # One by one: each takes some milliseconds, and a query is not stuck behind all of an upload's.
                (found[place],) = await loop.run_in_executor(executor, encoder.prepare_images, [one])
            except UnreadableImage as error:
                raise unreadable_image(field(place)) from error
    return [found[place] for place in range(len(inputs))]


def _end_of_group(texts: Sequence[str] | Sequence[tuple[str, str]], start: int) -> int:
    """Where the group from ``start`` ends: it has at least one text, which alone may be longer than a group."""
    end, characters = start + 1, _characters(texts[start])
    while end < min(len(texts), start + _GROUP_TEXTS):
        characters += _characters(texts[end])
        if characters > _GROUP_CHARACTERS:
            break
        end += 1
    return end


def _characters(text: str | tuple[str, str]) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
