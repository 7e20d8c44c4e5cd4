"""Telling how far a file is, from time to time, while it is read and embedded."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from cloister_common.errors import Unavailable

from cloister_retriever.vector_stores.ingestions import Ingestion, IngestionService
from cloister_retriever.vector_stores.records import Reading

__all__ = ["Watch", "watched"]

_NOTE_SECONDS = 1.0
"""Between two notes, and before the first: of a small file there is none."""


class Watch:
    """What is seen of a file on its way."""

    def __init__(self) -> None:
        self.reading = Reading()

    @property
    def pages(self) -> int | None:
        """How many pages the file has, if it has some."""
        return self.reading.pages

    def page(self, done: int, total: int) -> None:
        """So many pages have been read."""
        self.reading = self.reading.model_copy(update={"pages_done": done, "pages": total})

    def read(self, last_page: int | None) -> None:
        """All of the file has been read. Of slides nobody tells while they are."""
        pages = self.pages or last_page
        self.reading = self.reading.model_copy(update={"pages_done": pages, "pages": pages})

    def passage(self, done: int, total: int) -> None:
        """So many passages are in the index."""
        self.reading = self.reading.model_copy(update={"passages_done": done, "passages": total})


@contextlib.asynccontextmanager
async def watched(ingestions: IngestionService, ingestion: Ingestion) -> AsyncIterator[Watch]:
    """Notes what is seen of an ingestion until it has ended, for whoever asks. A note that fails is no harm."""
    watch = Watch()
    has_noted = False

    async def note() -> None:
        nonlocal has_noted
        told = Reading()
        while True:
            await asyncio.sleep(_NOTE_SECONDS)
            if watch.reading != told:
                told, has_noted = watch.reading, True
                with contextlib.suppress(Unavailable):
                    await ingestions.note(ingestion, told)

    noting = asyncio.ensure_future(note())
    try:
        yield watch
    finally:
        noting.cancel()
        await asyncio.wait({noting})
        if has_noted:
            with contextlib.suppress(Unavailable):
                await ingestions.forget_note(ingestion)
