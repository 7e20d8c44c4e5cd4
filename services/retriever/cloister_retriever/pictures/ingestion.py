"""What becomes of a file's pictures: each kept sealed, and indexed by what it shows where there is a model for that.

Done again, after a crash or beside a slow twin, it writes the same under the same names.
"""

import asyncio
from collections.abc import Awaitable, Callable

from cloister_common.errors import Unavailable
from cloister_common.vault import DataKey

from cloister_retriever.index.passages import Passage, PassageOwner, PictureMark
from cloister_retriever.keys import PassageKeyring, picture_key, picture_place
from cloister_retriever.parsing.parser import Parsed
from cloister_retriever.pictures.space import PictureSpace, ids_of
from cloister_retriever.pictures.store import PictureStore, StoredPicture
from cloister_retriever.settings import Protection

__all__ = ["PictureKeeper", "mark_of"]

_PICTURES_A_STEP = 16


def mark_of(parsed: Parsed, number: int) -> PictureMark:
    """What a passage says of the picture that it stands for."""
    picture = parsed.pictures[number]
    return PictureMark(
        number=number, media_type=picture.media_type, width=picture.width, height=picture.height, by=picture.by
    )


class PictureKeeper:
    """Keeps pictures.

    Args:
        store: Where they lie.
        keys: Finds the keys of a file's passages.
        space: Where they are found by what they show, if there is a model for that.
    """

    def __init__(self, store: PictureStore, keys: PassageKeyring, space: PictureSpace | None) -> None:
        self._store = store
        self._keys = keys
        self._space = space

    async def keep(
        self,
        owner: PassageOwner,
        key: DataKey,
        protection: Protection,
        parsed: Parsed,
        between: Callable[[], Awaitable[None]],
    ) -> int:
        """Keeps and indexes the pictures of a file; returns what they take, in bytes.

        Args:
            owner: Whose they are.
            key: Of the vector store.
            protection: Where the file's passages are.
            parsed: The file.
            between: Awaited between steps. What it raises ends this.

        Raises:
            Unavailable: Index or embedder do not answer, or not all is written yet.
        """
        if not parsed.pictures:
            return 0
        keys = await self._keys.get(owner.tenant, picture_key(key, owner.tenant), owner.file_id)
        if keys is None:
            raise Unavailable("The file is being deleted.", retry_after=1)
        usage = 0
        for number, picture in enumerate(parsed.pictures):
            stored = StoredPicture(picture.media_type, picture.content)
            usage += await self._store.write(keys, owner, number, stored)
        await self._store.keep_first(owner, len(parsed.pictures))
        if self._space is None:
            return usage
        index = self._space.index(owner.tenant, owner.store_id, key, protection)
        there = owner._replace(store_id=picture_place(owner.store_id))
        passages = _passages(parsed)
        for first in range(0, len(passages), _PICTURES_A_STEP):
            await between()
            some = slice(first, first + _PICTURES_A_STEP)
            vectors = await self._space.of_pictures([one.small for one in parsed.pictures[some]], bulk=True)
            entries = await asyncio.to_thread(self._space.entries, keys, there, passages[some], vectors)
            usage += sum(entry.stored_bytes for entry in entries)
            await index.upsert(entries)
        expected = ids_of(keys, there, [passage.position for passage in passages])
        if await index.count(there.store_id, expected) != len(expected):
            raise Unavailable("The index has not taken every picture yet.", retry_after=1)
        return usage


def _passages(parsed: Parsed) -> list[Passage]:
    """The passage that stands for each picture: that of the file's passages that has it, or one without words behind
    them all."""
    words = {
        chunk.picture: (position, chunk) for position, chunk in enumerate(parsed.chunks) if chunk.picture is not None
    }
    wordless = len(parsed.chunks) - len(words)
    passages = []
    for number, picture in enumerate(parsed.pictures):
        mark = mark_of(parsed, number)
        if number in words:
            position, chunk = words[number]
            place = {"start": chunk.start, "end": chunk.end, "page": chunk.page, "section": chunk.section}
            passages.append(
                Passage(position=position, text=parsed.text[chunk.start : chunk.end], **place, picture=mark)
            )
        else:
            position = wordless + number
            passages.append(Passage(position=position, text="", start=0, end=0, page=picture.page, picture=mark))
    return passages
