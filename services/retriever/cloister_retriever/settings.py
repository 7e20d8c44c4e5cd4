"""The retriever's settings: one YAML file, in a cluster the ConfigMap. Unknown keys are errors, secrets are files."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from cloister_common.buckets import BucketSettings
from cloister_common.settings import ClientTls, ServiceSettings, Settings
from pydantic import Field, model_validator

__all__ = [
    "BlobSettings",
    "EmbedderSettings",
    "IngestionSettings",
    "MilvusSettings",
    "MilvusTls",
    "PictureSearchSettings",
    "PictureSettings",
    "Protection",
    "ProtectionSettings",
    "RetrieverSettings",
    "SearchSettings",
    "VaultSettings",
]


Protection = Literal["standard", "sealed"]
"""What of a vector store's passages can be searched at rest: turned vectors and keyed terms, or nothing."""


class VaultSettings(Settings):
    """Where the root key is."""

    root_key_file: Path = Field(description="64 hexadecimal digits, mode 600.")


class EmbedderSettings(Settings):
    """The embedder this retriever asks for vectors."""

    url: str = Field(pattern="^https?://", description="Its scheme, host and port.")
    token_file: Path = Field(description="The embedder's internal token; of several lines the first is sent.")
    model: str = Field(min_length=1, description="The public name of the text model that embeds passages and queries.")
    image_model: str | None = Field(
        None,
        min_length=1,
        description="The public name of a model of the kind `image` (CLIP): pictures are then found by what they show "
        "too, and by another picture. Left out, they are found by words alone.",
    )
    tls: ClientTls = ClientTls()


class MilvusTls(ClientTls):
    """How this process checks Milvus, with an `https://` uri."""

    server_name: str | None = Field(None, description="The name in its certificate, where not the host of the uri.")


class MilvusSettings(Settings):
    """The Milvus server: Milvus Lite's server on loopback, or a real one."""

    uri: str = Field(
        pattern="^(https?://|unix:/)",
        description="Milvus 2.3.5 or later (`https://host:port`), or Milvus Lite's server (`unix:/path`, its socket).",
    )
    user: str | None = Field(None, description="Who the retriever is to Milvus. Set it and its password, or neither.")
    password_file: Path | None = Field(None, description="The user's password.")
    database: str = Field("default", description="The database of Milvus that all collections are in.")
    tls: MilvusTls = MilvusTls()
    timeout_seconds: float = Field(10.0, gt=0, description="The deadline of one call to Milvus, in seconds.")

    @model_validator(mode="after")
    def _user_has_password(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together: set both or neither")
        return self


class BlobSettings(BucketSettings):
    """The object store: a folder (``file:///path``) or S3 (``s3://bucket/prefix``)."""

    url: str = Field(pattern="^(file:///.+|s3://[^/]+)", description="`file:///path`, or `s3://bucket/prefix`.")
    min_free_mib: int = Field(
        256,
        ge=0,
        description="A folder: with fewer MiB free on its disk, or than a twentieth of a small one, uploads and "
        "attachments are a 503 and ingestion waits; reading and deleting go on.",
    )

    @model_validator(mode="after")
    def _s3_options_belong_to_s3(self) -> Self:
        s3_only = (self.endpoint, self.region, self.access_key_id_file, self.secret_access_key_file, self.ca_file)
        if urlsplit(self.url).scheme == "file" and any(option is not None for option in s3_only):
            raise ValueError("endpoint, region, keys and ca_file are options of an s3:// url")
        return self


class PictureSettings(Settings):
    """Which pictures of a file are kept, to be found and fetched."""

    max_per_file: int = Field(
        200, ge=0, le=2_000, description="Pictures of one file; more are counted and left out. 0 keeps none at all."
    )
    max_pixels: int = Field(
        50_000_000, ge=1_000, le=80_000_000, description="Pixels of one picture; a larger one is left out."
    )
    max_bytes: int = Field(
        16 * 1024 * 1024,
        ge=64 * 1024,
        le=64 * 1024 * 1024,
        description="Of all pictures of one file, as PNG and JPEG of at most 2,048 pixels a side.",
    )


class IngestionSettings(Settings):
    """How files become passages, and how much one file may cost."""

    tokenizer_path: Path = Field(description="Folder of the embedding model: tokenizer.json and its configuration.")
    prompt_tokens: int = Field(
        0,
        ge=0,
        le=1024,
        description="Tokens of the longest of the embedder's `models.<name>.prompts`, if it has some: passages leave "
        "room for them. Prompts of the folder's own are counted without this.",
    )
    workers: int = Field(
        2, ge=1, le=64, description="Files this process ingests at once, and as many small ones besides."
    )
    chunk_tokens: int = Field(200, ge=16, description="Passage length of the `auto` strategy, capped by the model.")
    overlap_tokens: int = Field(40, ge=0, description="Tokens two neighbouring passages share under `auto`.")
    max_file_bytes: int = Field(512 * 1024 * 1024, ge=1, description="Largest upload. OpenAI's own limit is 512 MB.")
    parse_seconds: float = Field(
        120.0, gt=0, description="Processor seconds one file may take to parse; by the clock three times that."
    )
    parse_memory_bytes: int = Field(
        1024 * 1024 * 1024, ge=256 * 1024 * 1024, description="The parser's address space, per file."
    )
    max_text_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="Largest extracted text, in UTF-8.")
    languages: list[Annotated[str, Field(pattern="^[a-z]{2}$")]] = Field(
        [],
        description="Languages that files are expected in, as `de` or `ja`: preferred where a file does not say its "
        "encoding and several fit.",
    )
    ocr: bool = Field(
        True,
        description="Whether text in scans and pictures is read, where `requirements/ocr.txt` is installed: a page "
        "takes some 5 processor seconds, and all of a file's together six tenths of `parse_seconds` at most.",
    )
    pictures: PictureSettings = PictureSettings()
    turn_seconds: float = Field(
        10.0, gt=0, description="Seconds that a file is worked on before another tenant's file may take its turn."
    )
    lease_seconds: float = Field(
        30.0, ge=1.0, description="Seconds without a sign of life after which a job is taken over."
    )

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.overlap_tokens * 2 > self.chunk_tokens:
            raise ValueError("overlap_tokens must be at most half of chunk_tokens")
        return self


class ProtectionSettings(Settings):
    """What of vector stores can be searched at rest."""

    default: Protection = Field(
        "sealed",
        description="Of a vector store whose request does not say it. `standard`: Milvus has turned vectors. "
        "`sealed`: nothing, up to `sealed_passages`; passages are decrypted and searched in memory.",
    )
    sealed_passages: int = Field(
        50_000, ge=1, le=200_000, description="Passages that a vector store holds sealed at most."
    )
    outgrown: Literal["standard", "refuse"] = Field(
        "standard",
        description="What becomes of a file that a sealed vector store has no place for. `standard`: it and all later "
        "ones go into Milvus, what is sealed stays so, and searches ask both. `refuse`: it fails, with the numbers.",
    )
    sealed_memory_bytes: int = Field(
        512 * 1024 * 1024,
        ge=1024 * 1024,
        description="Memory for what is open of sealed vector stores: at 384 dimensions about 6 KiB a passage. Those "
        "searched longest ago leave it first.",
    )


Cosines = tuple[
    Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)], Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
]


class PictureSearchSettings(Settings):
    """What a cosine of the CLIP model says: models differ in that. Below the first number it is a score of 0, from the
    second on one of 1. The defaults are for `clip-ViT-B-32`."""

    text_cosines: Cosines = Field((0.18, 0.34), description="Of a picture and a text.")
    picture_cosines: Cosines = Field((0.55, 1.0), description="Of a picture and another one.")

    @model_validator(mode="after")
    def _least_is_less(self) -> Self:
        for name, (least, most) in (("text", self.text_cosines), ("picture", self.picture_cosines)):
            if least >= most:
                raise ValueError(f"{name}_cosines must be two numbers, the smaller one first")
        return self


class SearchSettings(Settings):
    """How vector stores are searched."""

    words_memory_bytes: int = Field(
        512 * 1024 * 1024,
        ge=1024 * 1024,
        description="Memory for the words of `standard` vector stores: about 1.5 KiB a passage. Those searched longest "
        "ago leave it first. A store that needs more by itself is searched by meaning alone, which the log says.",
    )
    rerank_model: str | None = Field(
        None,
        min_length=1,
        description="The embedder's cross-encoder (`kind: rerank`) that puts the best passages in order, unless a "
        "search says `ranker: none`. Without one the scores do.",
    )
    rerank_candidates: int = Field(
        30, ge=2, le=100, description="Passages that it reads for a search, or as many as there are to be results."
    )
    rerank_seconds: float = Field(
        3.0, gt=0, le=30, description="Longest wait for it; then the order by scores stands, which a metric counts."
    )
    pictures: PictureSearchSettings = PictureSearchSettings()


class RetrieverSettings(ServiceSettings):
    """Everything the retriever reads at its start."""

    role: Literal["all", "api", "ingest"] = Field(
        "all", description="`api` answers, `ingest` works the queue, `all` does both."
    )
    token_file: Path = Field(
        description="The internal tokens this service accepts, one a line; the first is the current one."
    )
    vault: VaultSettings
    embedder: EmbedderSettings
    milvus: MilvusSettings
    blobs: BlobSettings
    ingestion: IngestionSettings
    protection: ProtectionSettings = ProtectionSettings()
    search: SearchSettings = SearchSettings()
