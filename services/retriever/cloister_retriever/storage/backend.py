"""Which object store it is: a folder or S3, as ``blobs.url`` says."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cloister_common.settings import SettingsError, read_secret
from obstore.exceptions import BaseError
from obstore.store import S3Store

from cloister_retriever.settings import BlobSettings
from cloister_retriever.storage.folder import FolderObjects
from cloister_retriever.storage.objects import Objects

if TYPE_CHECKING:  # obstore has these names in its stubs only
    from obstore.store import ClientConfig, RetryConfig, S3Config

__all__ = ["open_objects", "s3_store"]


def open_objects(settings: BlobSettings) -> Objects:
    """The store behind ``blobs.url``. A folder is made if it is missing; S3 is not contacted yet.

    Raises:
        SettingsError: The folder cannot be made or written to, or a secret cannot be read.
    """
    parts = urlsplit(settings.url)
    if parts.scheme != "file":
        return Objects(s3_store(settings))
    folder = Path(unquote(parts.path))
    try:
        return FolderObjects(folder, min_free_mib=settings.min_free_mib)
    except (OSError, BaseError) as error:
        raise SettingsError(
            f"blobs.url: cannot use the folder {folder}: {type(error).__name__}. Make it writable for this user."
        ) from error


def s3_store(settings: BlobSettings) -> S3Store:
    """The bucket behind ``blobs.url``, with every option of ``blobs``.

    Raises:
        SettingsError: A secret cannot be read.
    """
    parts = urlsplit(settings.url)
    config: S3Config = {"bucket": parts.netloc}
    if settings.endpoint is not None:
        config["endpoint"] = settings.endpoint
    if settings.region is not None:
        config["region"] = settings.region
    if settings.access_key_id_file is not None and settings.secret_access_key_file is not None:
        config["access_key_id"] = read_secret(
            settings.access_key_id_file, what="the object store's access key id", min_bytes=3
        ).decode()
        config["secret_access_key"] = read_secret(
            settings.secret_access_key_file, what="the object store's secret access key"
        ).decode()
    client: ClientConfig = {
        "allow_http": (settings.endpoint or "").startswith("http:"),
        "timeout": "30s",
        "connect_timeout": "3s",
    }
    if settings.ca_file is not None:
        client["root_certificate"] = settings.ca_file.read_bytes()
    retry: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
    return S3Store(config=config, prefix=parts.path.strip("/") or None, client_options=client, retry_config=retry)
