"""What a caller must be to the files that a request attaches or changes; and the access lists that it puts on them."""

from collections.abc import Sequence

from cloister_retriever.audience.records import FileAccess
from cloister_retriever.audience.service import Sight
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.schemas import AttachFile

__all__ = ["admit"]


async def admit(sight: Sight, tenant: str, attachments: AttachmentService, entries: Sequence[AttachFile]) -> None:
    """Lets a request attach files, and puts the access lists on them that it sends: before they are attached.

    All or nothing: no list is written where one of the files is refused.

    Raises:
        NotFound: A file does not exist, or the caller does not see it.
        Forbidden: The request changes a file that is another's: its list, its attributes, its chunking.
    """
    lists: dict[str, FileAccess | None] = {}
    seen = await sight.see_all([entry.file_id for entry in entries], param="file_id")
    for entry, access in zip(entries, seen, strict=True):
        if entry.access is not None:
            lists[entry.file_id] = sight.listed(entry.file_id, access, entry.access)
        elif entry.attributes is not None or entry.chunking_strategy is not None:
            sight.check_change(entry.file_id, access)
    if lists:
        await attachments.known_files(tenant, entries)
    await sight.put(lists)
