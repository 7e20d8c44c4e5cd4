"""Passages: a document cut by structure and by tokens of the embedding model, with exact character ranges."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cloister_common.settings import SettingsError
from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from cloister_retriever.parsing.document import Document, Segment

__all__ = ["Chunk", "Chunker", "ModelLimits"]

_SPLIT_LINE_CHARACTERS = 4_000
"""The splitter looks at the rest of a line again for every passage it takes from it, so that a line of 16 MiB without a
sentence's end would take it days. Longer lines are cut before; prose hardly has any."""

_SPLIT_CHARACTERS = 50_000
"""As much text as the splitter gets at once. Deeply nested Markdown takes it the square of its length, so the time of a
whole file grows with its length and no faster."""

_LINE_CUTS = ("\u3002", "\uff01", "\uff1f", ". ", "! ", "? ", " ")
"""Where a line is best cut, in this order: behind a sentence, else behind a word."""

_MAX_CHARACTERS = 6000
"""A word over 100 characters is one token to a WordPiece model, so tokens alone do not bound a passage's length."""


class Chunk(NamedTuple):
    """A passage as characters ``start`` to ``end`` of the text."""

    start: int
    end: int
    page: int | None
    section: str | None
    heading: str | None = None
    """As much of ``section`` as the model can read before the text: the innermost headings."""

    picture: int | None = None
    """Which of the file's pictures these words stand for, if they do."""


class ModelLimits(NamedTuple):
    """How much the embedding model reads."""

    tokens: int
    """Text tokens: the model's limit less the special tokens it adds and the longest prompt before a text."""

    besides: int = 0
    """These special tokens, and that prompt's."""

    @classmethod
    def of(cls, folder: Path, tokenizer: Tokenizer | None = None, *, prompt_tokens: int = 0) -> "ModelLimits":
        """Reads the limit of the sentence-transformers model in ``folder``, whose ``tokenizer`` may be loaded already.

        Args:
            folder: The model's.
            prompt_tokens: Of the longest prompt that the embedder's settings put before a text, if they do.

        Raises:
            SettingsError: The folder is not such a model's.
        """
        tokenizer = tokenizer or load_tokenizer(folder)
        limit = _json(folder / "sentence_bert_config.json").get("max_seq_length")
        if limit is None:
            limit = _json(folder / "tokenizer_config.json").get("model_max_length")
        if not isinstance(limit, int) or not 16 <= limit <= 1_000_000:
            raise SettingsError(
                f"ingestion.tokenizer_path: {folder} does not say how many tokens its model reads "
                "(max_seq_length in sentence_bert_config.json). Point it at the embedding model's folder."
            )
        prompts = _json(folder / "config_sentence_transformers.json").get("prompts")
        texts = [text for text in prompts.values() if isinstance(text, str)] if isinstance(prompts, dict) else []
        own = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
        besides = tokenizer.num_special_tokens_to_add(False) + max(prompt_tokens, *own, 0)
        return cls(limit - besides, besides)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model's folder, without the truncation and padding its file may ask for.

    Raises:
        SettingsError: There is none.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise SettingsError(
            f"ingestion.tokenizer_path: cannot read {path}. Point it at the embedding model's folder."
        ) from error
    # A tokenizer that truncates would count every longer text as just short enough.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class Chunker:
    """Cuts documents into passages.

    Args:
        tokenizer: The embedding model's, from `load_tokenizer`.
        max_tokens: Longest passage, special tokens not counted.
        overlap_tokens: What neighbours may share.
        model_tokens: What the model reads, special tokens not counted: what a passage leaves of it is for headings.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, max_tokens: int, overlap_tokens: int, model_tokens: int | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._model_tokens = model_tokens or max_tokens
        self._max_tokens = max_tokens
        self._text = TextSplitter.from_huggingface_tokenizer(tokenizer, max_tokens, overlap=overlap_tokens)
        self._markdown = MarkdownSplitter.from_huggingface_tokenizer(tokenizer, max_tokens, overlap=overlap_tokens)

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """The passages of ``document`` in its order. None is empty, none crosses a segment's border, and none is only
        a heading."""
        splitter = self._markdown if document.markdown else self._text
        for segment in document.segments:
            for start, end in self._segment(document.text, segment, splitter):
                heading = self.heading(segment.section, document.text[start:end])
                yield Chunk(start, end, segment.page, segment.section, heading)

    def _segment(
        self, text: str, segment: Segment, splitter: TextSplitter | MarkdownSplitter
    ) -> Iterator[tuple[int, int]]:
        """Ranges of a segment's passages. Headings go with what follows them, or else with what is before them."""
        start, end = segment.start, segment.end
        body = segment.body if segment.body is not None and self._is_short(text[start : segment.body]) else start
        tail = segment.tail if segment.tail is not None and self._is_short(text[segment.tail : end]) else end
        ranges = list(self._ranges(text, body, tail, splitter))
        if not ranges:
            yield from self._ranges(text, start, end, splitter)
            return
        if body > start:
            first, last = ranges.pop(0)
            lead = next(_seen(text, start, body))[0]
            cut = last
            while not self._fits(text[lead:cut]) and cut > first + 1:
                cut = _middle(text, first, cut)
            ranges[:0] = [(lead, cut), *_seen(text, cut, last)]
        if tail < end:
            first, last = ranges.pop()
            until = next(_seen(text, tail, end))[1]
            cut = first
            while not self._fits(text[cut:until]) and cut < last - 1:
                cut = _middle(text, max(cut, body), last)
            ranges += [*_seen(text, first, cut), (cut, until)]
        yield from ranges

    def _fits(self, text: str) -> bool:
        return len(text) <= _MAX_CHARACTERS and self._has_at_most(self._max_tokens, text)

    def _is_short(self, text: str) -> bool:
        """Whether headings leave room for text; those that do not are text."""
        return (
            bool(text.strip()) and len(text) * 2 <= _MAX_CHARACTERS and self._has_at_most(self._max_tokens // 2, text)
        )

    def _ranges(
        self, text: str, start: int, end: int, splitter: TextSplitter | MarkdownSplitter
    ) -> Iterator[tuple[int, int]]:
        for first, last in _blocks(text, start, end):
            for offset, piece in splitter.chunk_indices(text[first:last]):
                for begin, until in self._bounded(piece):
                    yield first + offset + begin, first + offset + until

    def heading(self, section: str | None, text: str) -> str | None:
        """As many of the innermost headings as the model can read before ``text``, with a line's end between."""
        if section is None:
            return None
        heading = section[-_MAX_CHARACTERS:]
        while heading and not self._has_at_most(self._model_tokens, f"{heading}\n{text}"):
            # Without the outermost heading, or of the last one without its first half.
            _, parted, rest = heading.partition(" > ")
            heading = rest if parted else heading[(len(heading) + 1) // 2 :].strip()
        return heading or None

    def fitted(self, text: str, start: int, end: int) -> int:
        """Where what begins at ``start`` has to end, at ``end`` at the latest, to be a passage."""
        while end > start + 1 and not self._fits(text[start:end]):
            end = _middle(text, start, end)
        return end

    def is_word(self, text: str) -> bool:
        """Whether the model has ``text`` in its vocabulary as one whole word."""
        word = text.lower()
        # WordPiece has whole words as they are; SentencePiece and byte pairs mark where a word begins.
        return any(self._tokenizer.token_to_id(mark + word) is not None for mark in ("", "\u2581", "\u0120"))

    def pieces(self, text: str, *, most: int | None = None) -> list[str]:
        """``text`` as pieces that the model can read: one, unless it is too long; the first ``most`` of them."""
        if len(text) <= _MAX_CHARACTERS and self._tokens(text) <= self._max_tokens:
            return [text]
        return list(itertools.islice(self._pieces(text), most))

    def _pieces(self, text: str) -> Iterator[str]:
        for first, last in _blocks(text, 0, len(text)):
            for piece in self._text.chunks(text[first:last]):
                for start, end in self._bounded(piece):
                    yield piece[start:end]

    def _bounded(self, piece: str) -> list[tuple[int, int]]:
        """Ranges of ``piece`` that are short enough in characters and, checked again, in tokens."""
        ranges = []
        waiting = [(0, len(piece))]
        while waiting:
            start, end = waiting.pop()
            text = piece[start:end]
            if end - start > 1 and (end - start > _MAX_CHARACTERS or not self._has_at_most(self._max_tokens, text)):
                middle = (start + end) // 2
                waiting += [(middle, end), (start, middle)]
            elif text.strip():
                ranges.append((start, end))
        return ranges

    def _has_at_most(self, tokens: int, text: str) -> bool:
        # No token is less than a byte, but for the mark that some models put before a text: most need no counting.
        return len(text.encode()) < tokens or self._tokens(text) <= tokens

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _seen(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The range without blanks at its ends, if there is anything else."""
    piece = text[start:end]
    if bare := piece.strip():
        first = start + len(piece) - len(piece.lstrip())
        yield first, first + len(bare)


def _middle(text: str, start: int, end: int) -> int:
    """A place in the middle, behind a blank if there is one."""
    middle = (start + end) // 2
    return text.rfind(" ", start + 1, middle) + 1 or max(middle, start + 1)


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Ranges that together are ``start`` to ``end`` of ``text``: whole paragraphs, else lines, else parts of a line."""
    first = line = start
    while line < end:
        after = text.find("\n", line, end) + 1 or end
        if after - line > _SPLIT_LINE_CHARACTERS:
            if line > first:
                yield first, line
            yield from _line_parts(text, line, after)
            first = after
        elif after - first > _SPLIT_CHARACTERS:
            paragraph = text.rfind("\n\n", first + _SPLIT_CHARACTERS // 2, line)
            cut = line if paragraph < 0 else paragraph + len("\n\n")
            yield first, cut
            first = cut
        line = after
    if first < end:
        yield first, end


def _line_parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while end - start > _SPLIT_LINE_CHARACTERS:
        latest = start + _SPLIT_LINE_CHARACTERS
        cuts = ((text.rfind(mark, start + _SPLIT_LINE_CHARACTERS // 2, latest), len(mark)) for mark in _LINE_CUTS)
        cut = next((at + length for at, length in cuts if at >= 0), latest)
        yield start, cut
        start = cut
    yield start, end


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
