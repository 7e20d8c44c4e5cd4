"""Buckets of an object store that speaks S3's protocol: where one is, who asks, and the way to it.

obstore is loaded only where a bucket is opened: not every part has one.
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cloister_common.settings import Settings, SettingsError, read_secret

if TYPE_CHECKING:  # obstore has all but the last of these names in its stubs only
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Store

__all__ = ["BucketSettings", "open_bucket"]


class BucketSettings(Settings):
    """A bucket, or what lies below a prefix in one."""

    url: str = Field(pattern="^s3://[^/]+", description="`s3://bucket/prefix`.")
    endpoint: str | None = Field(None, description="S3: the server's URL, where it is not AWS.")
    region: str | None = Field(None, description="S3: the bucket's region.")
    access_key_id_file: Path | None = Field(None, description="S3: the access key's id.")
    secret_access_key_file: Path | None = Field(None, description="S3: the access key. Set both files, or neither.")
    ca_file: Path | None = Field(None, description="S3: CA bundle to trust instead of the system's.")

    @model_validator(mode="after")
    def _key_is_whole(self) -> Self:
        if (self.access_key_id_file is None) != (self.secret_access_key_file is None):
            raise ValueError("access_key_id_file and secret_access_key_file belong together: set both or neither")
        return self


def open_bucket(settings: BucketSettings) -> "S3Store":
    """The bucket, which is not contacted yet.

    Raises:
        SettingsError: A secret or the CA bundle cannot be read, or there is no such bucket or prefix.
    """
    from obstore.store import S3Store

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
        try:
            client["root_certificate"] = settings.ca_file.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"Cannot read {settings.ca_file}, the object store's CA bundle: {error.strerror}. Mount it, or leave "
                "ca_file out."
            ) from error
    retry: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
    prefix = parts.path.strip("/") or None
    try:
        return S3Store(config=config, prefix=prefix, client_options=client, retry_config=retry)
    except ValueError as error:  # a CA bundle without a certificate, or a prefix that no object has
        raise SettingsError(f"Cannot open the bucket {settings.url}: {error}") from error
