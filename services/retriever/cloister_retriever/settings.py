"""The retriever's settings: one YAML file, in a cluster the ConfigMap. Unknown keys are errors, secrets are files."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from cloister_common.settings import ClientTls, ServiceSettings, Settings
from pydantic import Field, model_validator

__all__ = [
    "BlobSettings",
    "EmbedderSettings",
    "IngestionSettings",
    "MilvusSettings",
    "MilvusTls",
    "RetrieverSettings",
    "VaultSettings",
]


class VaultSettings(Settings):
    """Where the root key is."""

    root_key_file: Path = Field(description="64 hexadecimal digits, mode 600.")


class EmbedderSettings(Settings):
    """The embedder this retriever asks for vectors."""

    url: str = Field(pattern="^https?://")
    token_file: Path = Field(description="The embedder's internal token.")
    model: str = Field(min_length=1, description="The public name of the text model that embeds passages and queries.")
    tls: ClientTls = ClientTls()


class MilvusTls(ClientTls):
    """TLS towards Milvus. ``server_name`` is the name in its certificate, where that is not the host of the URI."""

    server_name: str | None = None


class MilvusSettings(Settings):
    """The Milvus server: Milvus Lite's server on loopback, or a real one."""

    uri: str = Field(pattern="^(https?://|unix:/)")
    user: str | None = None
    password_file: Path | None = None
    database: str = "default"
    tls: MilvusTls = MilvusTls()
    timeout_seconds: float = Field(10.0, gt=0, description="The deadline of one call to Milvus.")

    @model_validator(mode="after")
    def _user_has_password(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together: set both or neither")
        return self


class BlobSettings(Settings):
    """The object store: a folder (``file:///path``) or S3 (``s3://bucket/prefix``)."""

    url: str = Field(pattern="^(file:///.+|s3://[^/]+)")
    endpoint: str | None = Field(None, description="S3: the server's URL, where it is not AWS.")
    region: str | None = None
    access_key_id_file: Path | None = None
    secret_access_key_file: Path | None = None
    ca_file: Path | None = Field(None, description="S3: CA bundle to trust instead of the system's.")
    min_free_mib: int = Field(
        256,
        ge=0,
        description="A folder: with less free on its disk nothing is taken in. At most a twentieth of the disk counts.",
    )

    @model_validator(mode="after")
    def _s3_options_belong_to_s3(self) -> Self:
        s3_only = (self.endpoint, self.region, self.access_key_id_file, self.secret_access_key_file, self.ca_file)
        if urlsplit(self.url).scheme == "file" and any(option is not None for option in s3_only):
            raise ValueError("endpoint, region, keys and ca_file are options of an s3:// url")
        if (self.access_key_id_file is None) != (self.secret_access_key_file is None):
            raise ValueError("access_key_id_file and secret_access_key_file belong together: set both or neither")
        return self


class IngestionSettings(Settings):
    """How files become passages, and how much one file may cost."""

    tokenizer_path: Path = Field(description="Folder of the embedding model: tokenizer.json and its configuration.")
    workers: int = Field(2, ge=1, le=64, description="Files this process ingests at once.")
    chunk_tokens: int = Field(200, ge=16, description="Passage length of the `auto` strategy, capped by the model.")
    overlap_tokens: int = Field(40, ge=0, description="Tokens two neighbouring passages share under `auto`.")
    max_file_bytes: int = Field(512 * 1024 * 1024, ge=1, description="Largest upload. OpenAI's own limit is 512 MB.")
    parse_seconds: float = Field(
        120.0, gt=0, description="Processor seconds one file may take to parse; by the clock three times that."
    )
    parse_memory_bytes: int = Field(1024 * 1024 * 1024, ge=256 * 1024 * 1024, description="The parser's address space.")
    max_text_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="Largest extracted text, in UTF-8.")
    turn_seconds: float = Field(
        10.0, gt=0, description="How long a file is worked on before another tenant's file may take its turn."
    )
    lease_seconds: float = Field(
        30.0, ge=1.0, description="After this long without a sign of life a job is taken over."
    )

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.overlap_tokens * 2 > self.chunk_tokens:
            raise ValueError("overlap_tokens must be at most half of chunk_tokens")
        return self


class RetrieverSettings(ServiceSettings):
    """Everything the retriever reads at its start."""

    role: Literal["all", "api", "ingest"] = Field(
        "all", description="api answers, ingest works the queue, all does both."
    )
    token_file: Path = Field(description="The retriever's own internal tokens, one a line.")
    vault: VaultSettings
    embedder: EmbedderSettings
    milvus: MilvusSettings
    blobs: BlobSettings
    ingestion: IngestionSettings
