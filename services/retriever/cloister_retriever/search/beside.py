"""Files that describe a picture beside them: what is found in ``photo.jpg.txt`` brings ``photo.jpg``.

The two are files of their own, each under its own key and with its own access list. So they are put together when
somebody asks who sees both, and neither's words are ever stored with the other.
"""

from collections.abc import Sequence, Set

from cloister_common.wire.search import FoundImage, FoundPassage

from cloister_retriever.parsing.sidecars import picture_of
from cloister_retriever.search.results import image_url
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.service import OpenStore

__all__ = ["with_pictures"]


async def with_pictures(
    tenant: str,
    attachments: AttachmentService,
    stores: Sequence[OpenStore],
    found: Sequence[FoundPassage],
    hidden: Set[str],
) -> list[FoundPassage]:
    """The results, with the picture of each that describes one which the caller sees."""
    results = []
    for passage in found:
        name = picture_of(passage.filename)
        if name is not None and passage.image is None:
            store = next(one for one in stores if one.record.id == passage.vector_store_id)
            file_id = await _picture(tenant, attachments, store, name, hidden)
            if file_id is not None:
                image = FoundImage(file_id=file_id, index=0, url=image_url(store.record.id, file_id, 0))
                passage = passage.model_copy(update={"image": image, "found_by": "description"})
        results.append(passage)
    return results


async def _picture(
    tenant: str, attachments: AttachmentService, store: OpenStore, name: str, hidden: Set[str]
) -> str | None:
    """The file of this name in a store, the one attached last if there are several."""
    named = [
        file
        for file in await attachments.list(tenant, store.record.id, store.key)
        if file.record.file_name == name and file.status == "completed" and file.record.file_id not in hidden
    ]
    return max(named, key=lambda file: file.record.place).record.file_id if named else None
