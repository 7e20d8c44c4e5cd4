"""Reads a file whatever its kind, and the files within it, as deep and as many as one upload may hold."""

from collections.abc import Callable, Sequence

from cloister_retriever.parsing.album import NO_PICTURES, Album
from cloister_retriever.parsing.decoding import unmarked_wide
from cloister_retriever.parsing.detect import detect
from cloister_retriever.parsing.document import Document, UnreadableFile, too_long
from cloister_retriever.parsing.kinds.kind import Source
from cloister_retriever.parsing.kinds.text import TEXT
from cloister_retriever.parsing.ocr import Eyes

__all__ = ["Reader"]

_DEEPEST = 4
"""A document in an archive, attached to a mail, that is attached to a mail."""

_MAX_FILES = 2_000
_MAX_BYTES = 256 * 1024 * 1024
"""Of the files within files, unpacked, all together."""


def _untold(_done: int, _total: int) -> None:
    """Of a file within another nobody is told where it is read."""


class Reader:
    """Reads one upload.

    Args:
        max_text_bytes: The largest text that may come out of it, in UTF-8.
        languages: Those that are expected, by ISO 639's two letters.
        is_word: Whether the embedding model knows something as one word.
        on_page: Is told how many of the upload's pages have been read, and of how many.
        album: Takes its pictures; none are taken without one.
        eyes: Read text in pictures; none is read without.
    """

    def __init__(
        self,
        max_text_bytes: int,
        *,
        languages: Sequence[str] = (),
        is_word: Callable[[str], bool] = str.isalpha,
        on_page: Callable[[int, int], None] = _untold,
        album: Album | None = None,
        eyes: Eyes | None = None,
    ) -> None:
        self._max_text_bytes = max_text_bytes
        self._languages = languages
        self._is_word = is_word
        self._on_page = on_page
        self._album = album or Album(NO_PICTURES)
        self._eyes = eyes or Eyes(0.0)
        self._files = 0
        self._bytes = 0

    def read(self, content: bytes, name: str, *, depth: int = 0, description: str | None = None) -> Document:
        """The text of a file and its parts. ``description`` is of a picture.

        Raises:
            UnreadableFile: It is not one we read, is broken, or over a limit.
        """

        def within(inner: bytes, called: str, said: str | None = None, /) -> Document:
            self._files += 1
            self._bytes += len(inner)
            if self._files > _MAX_FILES or self._bytes > _MAX_BYTES:
                raise UnreadableFile(
                    "invalid_file", f"There are more than {_MAX_FILES} files in it, or too large ones."
                )
            return self.read(inner, called, depth=depth + 1, description=said)

        kind = detect(content, name)
        if kind is TEXT and (narrow := unmarked_wide(content)) is not None:
            content, kind = narrow, detect(narrow, name)
        source = Source(
            content,
            name,
            self._max_text_bytes,
            self._languages,
            self._is_word,
            within if depth < _DEEPEST else None,
            album=self._album,
            eyes=self._eyes,
            description=description,
            on_page=_untold if depth else self._on_page,
        )
        document = kind.parse(source)
        if len(document.text.encode()) > self._max_text_bytes:
            raise too_long(self._max_text_bytes)
        return document
