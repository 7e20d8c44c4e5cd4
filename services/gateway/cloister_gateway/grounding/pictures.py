"""The pictures of passages, fetched for models that take images.

A picture is one of many things that a turn is given: one that is gone by now, that the caller may not see any more, or
that cannot be fetched in time is left out, and its passage's text stays.
"""

import asyncio
from collections.abc import Sequence

from cloister_common.caller import Caller
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.errors import CloisterError
from cloister_common.logs import get_logger
from cloister_common.wire.images import MOST_IMAGE_BYTES
from cloister_common.wire.pictures import data_url
from cloister_common.wire.search import FoundImage

from cloister_gateway.grounding.excerpts import Passage, Shown

__all__ = ["pictures_of"]

log = get_logger(__name__)

_SECONDS = 5.0
"""What lies in an object store near by comes sooner; nobody waits longer for an answer because of a picture."""


async def pictures_of(
    retriever: RetrieverClient,
    tenant: str,
    passages: Sequence[Passage],
    caller: Caller,
    *,
    most: int,
    characters: int,
) -> list[Shown]:
    """The pictures of ``passages`` that ``caller`` may see, of the first passage first, each once.

    Args:
        retriever: Has them, of at most 2,048 pixels a side, and decides who may see them.
        tenant: Whose passages these are.
        passages: Best first.
        caller: For whom.
        most: How many at most.
        characters: Of all of them together, as data URLs; what is beyond is left out.
    """
    wanted: dict[tuple[str, int], tuple[int, FoundImage]] = {}
    for place, passage in enumerate(passages):
        if passage.image is not None and len(wanted) < most:
            wanted.setdefault((passage.image.file_id, passage.image.index), (place, passage.image))
    urls = await asyncio.gather(*(_fetched(retriever, tenant, image, caller) for _, image in wanted.values()))
    shown = []
    for (place, _), url in zip(wanted.values(), urls, strict=True):
        if url is not None and len(url) <= characters:
            characters -= len(url)
            shown.append(Shown(place, url))
    return shown


async def _fetched(retriever: RetrieverClient, tenant: str, image: FoundImage, caller: Caller) -> str | None:
    """A picture as a data URL, as small as one that a person shows; None if it cannot be had now."""
    try:
        async with asyncio.timeout(_SECONDS):
            content = (await retriever.picture(tenant, image, caller=caller)).content
            if len(content) > MOST_IMAGE_BYTES:
                return (await retriever.image(tenant, content=content, caller=caller)).url
    except (CloisterError, TimeoutError) as error:
        log.warning("picture_not_shown", file_id=image.file_id, error=type(error).__name__)
        return None
    return data_url(content)
