"""Turns pieces into token ids: markup with the model's tokenizer, content with one that knows no added tokens.

Both are made from the same ``tokenizer.json``. The content tokenizer loses every added token, special or not, and the
entries of the base vocabulary with the same ids (a converted vocabulary often lists ``<|im_start|>`` there as well).
What a control token looks like is then ordinary text to it, which decodes to the same characters.

Tokenizers that stem from SentencePiece put a space before every text they are given. That is right once, at the
start of the prompt; pieces further on are encoded without it. A prompt that is content from its first character, as
that of a completion, has it too.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from cloister_common.errors import InvalidRequest
from tokenizers import Tokenizer

from cloister_llm.rendering.pieces import Piece

__all__ = ["PieceEncoder"]

_CACHED_PIECES = 512
_LONGEST_CACHED = 4096
"""Characters. A template's own words are shorter; what is longer has the numbers of a caller's tools in it, and a cache
of those would grow to gigabytes."""


class PieceEncoder:
    """The tokenizers made from one. Safe to use from several threads."""

    def __init__(self, tokenizer_json: str) -> None:
        """Takes the serialised fast tokenizer (``tokenizer.json``).

        Raises:
            ValueError: The tokenizer cannot be taken apart.
        """
        data = json.loads(tokenizer_json)
        data.update(truncation=None, padding=None, post_processor=None)
        self.added_tokens = {token["content"]: int(token["id"]) for token in data["added_tokens"]}
        self.control_ids = frozenset(self.added_tokens.values())
        inner = _without_prefix(data)
        try:
            self._full = Tokenizer.from_str(json.dumps(data))
            self._inner = Tokenizer.from_str(json.dumps(inner))
            self._content = Tokenizer.from_str(json.dumps(_without_added_tokens(inner, self.control_ids)))
            self._opening = self._content
            if inner != data:
                self._opening = Tokenizer.from_str(json.dumps(_without_added_tokens(data, self.control_ids)))
        except Exception as error:
            raise ValueError(f"The model's tokenizer cannot be split into markup and content: {error}") from error
        # Markup recurs: a template writes the same few strings between all messages.
        self._markup = lru_cache(maxsize=_CACHED_PIECES)(self._encode_markup)

    def encode(self, pieces: Iterable[Piece]) -> list[int]:
        """The token ids of ``pieces``, joined. No BOS is added: the template writes it if the model wants one."""
        ids: list[int] = []
        for at, piece in enumerate(pieces):
            if piece.content:
                ids += self.encode_content(piece.text)
            else:
                encode = self._markup if len(piece.text) <= _LONGEST_CACHED else self._encode_markup
                ids += encode(piece.text, at == 0)
        return ids

    def encode_content(self, text: str) -> list[int]:
        """Token ids of content: never the id of an added token.

        Raises:
            InvalidRequest: The tokenizer has no other way to write a character of the text.
        """
        return self._encode_text(self._content, text, "messages")

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a prompt that is nothing but content. No BOS is added.

        Raises:
            InvalidRequest: As `encode_content`.
        """
        return self._encode_text(self._opening, text, "prompt")

    def _encode_text(self, tokenizer: Tokenizer, text: str, param: str) -> list[int]:
        try:
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        except Exception as error:
            # The library raises bare Exception, for lone surrogates and for characters without an unknown token.
            raise InvalidRequest(
                "The text has characters that the model's tokenizer cannot write. Leave them out.", param=param
            ) from error
        if not self.control_ids.isdisjoint(ids):
            raise InvalidRequest(
                "The text has characters that the model's tokenizer can only write as control tokens. Leave them out.",
                param=param,
            )
        return ids

    def _encode_markup(self, text: str, first: bool) -> tuple[int, ...]:
        whole = self._full.encode(text, add_special_tokens=False)
        if first:
            return tuple(whole.ids)
        # What follows a control token begins a text of its own, as it does when a prompt is encoded whole.
        at = next((at for at, token in enumerate(whole.ids) if token in self.control_ids), len(whole.ids))
        begin = whole.offsets[at][0] if at < len(whole.ids) else len(text)
        head = self._inner.encode(text[:begin], add_special_tokens=False).ids if begin else []
        return (*head, *whole.ids[at:])


def _without_prefix(data: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer, but it does not put a space before its input."""
    data = json.loads(json.dumps(data))
    data["normalizer"] = _strip_prefix(data.get("normalizer"))
    data["pre_tokenizer"] = _strip_prefix(data.get("pre_tokenizer"))
    return data


def _strip_prefix(step: dict[str, Any] | None) -> dict[str, Any] | None:
    if step is None or step["type"] == "Prepend":
        return None
    if step["type"] == "Sequence":
        parts = "normalizers" if "normalizers" in step else "pretokenizers"
        step[parts] = [kept for part in step[parts] if (kept := _strip_prefix(part)) is not None]
    if step["type"] == "Metaspace":
        step["prepend_scheme"] = "never"
    if "add_prefix_space" in step:
        step["add_prefix_space"] = False
    return step


def _without_added_tokens(data: dict[str, Any], control_ids: frozenset[int]) -> dict[str, Any]:
    """The same tokenizer without its added tokens, and without the vocabulary entries that share their ids."""
    data = {**data, "added_tokens": [], "model": dict(data["model"])}
    model = data["model"]
    if isinstance(model["vocab"], list):
        # Unigram: an entry's place is its id, so it stays, under a spelling that no text has.
        model["vocab"] = [
            [f"\U0010ffff{at}\U0010ffff", entry[1]] if at in control_ids else entry
            for at, entry in enumerate(model["vocab"])
        ]
        return data
    gone = {text for text, at in model["vocab"].items() if at in control_ids}
    model["vocab"] = {text: at for text, at in model["vocab"].items() if text not in gone}
    if "merges" in model:
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [[a, b] for a, b in pairs if a not in gone and b not in gone and a + b not in gone]
    return data
