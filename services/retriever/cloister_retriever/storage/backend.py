"""Which object store it is: a folder or S3, as ``blobs.url`` says."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from cloister_common.buckets import open_bucket
from cloister_common.settings import SettingsError
from obstore.exceptions import BaseError

from cloister_retriever.settings import BlobSettings
from cloister_retriever.storage.folder import FolderObjects
from cloister_retriever.storage.objects import Objects

__all__ = ["open_objects"]


def open_objects(settings: BlobSettings) -> Objects:
    """The store behind ``blobs.url``. A folder is made if it is missing; S3 is not contacted yet.

    Raises:
        SettingsError: The folder cannot be made or written to, or a secret cannot be read.
    """
    parts = urlsplit(settings.url)
    if parts.scheme != "file":
        return Objects(open_bucket(settings))
    folder = Path(unquote(parts.path))
    try:
        return FolderObjects(folder, min_free_mib=settings.min_free_mib)
    except (OSError, BaseError) as error:
        raise SettingsError(
            f"blobs.url: cannot use the folder {folder}: {type(error).__name__}. Make it writable for this user."
        ) from error
