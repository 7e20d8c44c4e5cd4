"""Reads a file whatever its kind, and the files within it, as deep and as many as one upload may hold."""

from collections.abc import Callable, Sequence

from cloister_retriever.parsing.detect import detect
from cloister_retriever.parsing.document import Document, UnreadableFile, too_long
from cloister_retriever.parsing.kinds.kind import Source

__all__ = ["Reader"]

_DEEPEST = 4
"""A document in an archive, attached to a mail, that is attached to a mail."""

_MAX_FILES = 2_000
_MAX_BYTES = 256 * 1024 * 1024
"""Of the files within files, unpacked, all together."""


class Reader:
    """Reads one upload.

    Args:
        max_text_bytes: The largest text that may come out of it, in UTF-8.
        languages: Those that are expected, by ISO 639's two letters.
        is_word: Whether the embedding model knows something as one word.
    """

    def __init__(
        self, max_text_bytes: int, *, languages: Sequence[str] = (), is_word: Callable[[str], bool] = str.isalpha
    ) -> None:
        self._max_text_bytes = max_text_bytes
        self._languages = languages
        self._is_word = is_word
        self._files = 0
        self._bytes = 0

    def read(self, content: bytes, name: str, *, depth: int = 0) -> Document:
        """The text of a file and its parts.

        Raises:
            UnreadableFile: It is not one we read, is broken, or over a limit.
        """

        def within(inner: bytes, called: str) -> Document:
            self._files += 1
            self._bytes += len(inner)
            if self._files > _MAX_FILES or self._bytes > _MAX_BYTES:
                raise UnreadableFile(
                    "invalid_file", f"There are more than {_MAX_FILES} files in it, or too large ones."
                )
            return self.read(inner, called, depth=depth + 1)

        source = Source(
            content,
            name,
            self._max_text_bytes,
            self._languages,
            self._is_word,
            within if depth < _DEEPEST else None,
        )
        document = detect(content, name).parse(source)
        if len(document.text.encode()) > self._max_text_bytes:
            raise too_long(self._max_text_bytes)
        return document
