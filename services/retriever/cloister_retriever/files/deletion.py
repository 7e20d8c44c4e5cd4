"""Deleting a file takes it out of every vector store first. These are above files, so what they do is handed in."""

from cloister_retriever.files.service import Detach, FileService

__all__ = ["FileDeletion"]


class FileDeletion:
    """Deletes files.

    Args:
        files: The files.
        detach: Takes one out of a vector store.
    """

    def __init__(self, files: FileService, detach: Detach) -> None:
        self._files = files
        self._detach = detach

    async def delete(self, tenant: str, file_id: str) -> None:
        """Deletes the file as `FileService.delete`, from wherever it is attached."""
        await self._files.delete(tenant, file_id, self._detach)
