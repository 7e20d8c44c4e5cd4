"""What the gateway can be told: one YAML file, read once at start. Everything else derives from it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from cloister_common.settings import ClientTls, ServiceSettings, Settings
from cloister_common.values import MOST_VALUES
from pydantic import Field, StringConstraints, model_validator

__all__ = [
    "BodySettings",
    "EmbedderSettings",
    "GatewaySettings",
    "IdentitySettings",
    "LlmSettings",
    "ModelSettings",
    "RedisSettings",
    "ResponsesSettings",
    "RetrieverSettings",
    "VaultSettings",
]

HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+$")]
"""Scheme, host and port without a path: the callers add the paths."""

RedisUrl = Annotated[str, StringConstraints(pattern=r"^rediss?://[^/@\s]+(/\d+)?$")]
"""``redis://host:port[/db]`` or ``rediss://`` for TLS. Credentials go into files, never into the URL."""

MEBIBYTE = 1024 * 1024


class VaultSettings(Settings):
    """Where the root key is."""

    root_key_file: Path = Field(
        description="64 hexadecimal digits; wraps every tenant key. Another one than Redis was filled under stops the "
        "start."
    )


class IdentitySettings(Settings):
    """How callers are known."""

    pepper_file: Path = Field(
        description="At least 32 random characters a line. API keys are stored as HMACs under the first line; "
        "all lines are accepted, so that the pepper can be rotated."
    )


class RedisSettings(Settings):
    """The store of everything the gateway keeps."""

    url: RedisUrl = Field(
        description="`redis://host:port[/db]`, or `rediss://` for TLS. Credentials go into files, never into the URL."
    )
    username: str | None = Field(None, description="The ACL user; without one, Redis's default user.")
    password_file: Path | None = Field(None, description="The user's password.")
    tls: ClientTls = ClientTls()
    durability: Literal["required", "best_effort"] = Field(
        "required",
        description="`required` refuses to start on a Redis that may lose acknowledged writes in a power cut (no "
        "append-only file, or without `appendfsync always`), that may evict keys, or whose default user may not do "
        "what transactions do: Redis replays them as that user, which may be `off`. `best_effort` warns.",
    )
    connections: int = Field(64, ge=4, description="Connections of the command pool; callers wait for a free one.")
    timeout_seconds: float = Field(
        5.0, gt=0, description="Longest wait for a reply, and for a free connection, in seconds."
    )
    start_seconds: float = Field(30.0, ge=0, description="Seconds that the start waits for Redis to be there.")


class ModelSettings(Settings):
    """One chat model and the pods that serve it."""

    urls: list[HttpUrl] = Field([], description="One address for each pod; or give `service`.")
    service: HttpUrl | None = Field(
        None,
        description="Instead of `urls`: the address of a name that stands for all pods, as a headless Service's does. "
        "It is looked up again and again, so pods may come and go.",
    )
    context_tokens: int = Field(ge=128, description="The longest prompt and answer together, in tokens.")
    default_output_tokens: int = Field(
        1024, ge=1, description="The longest answer, in tokens, where the caller sets no max_output_tokens."
    )
    instructions: str | None = Field(None, description="A system turn before every conversation with this model.")

    @model_validator(mode="after")
    def _pods_are_found_in_one_way(self) -> Self:
        if bool(self.urls) == (self.service is not None):
            raise ValueError("give either urls, one for each pod, or service, the name that stands for all of them")
        return self


class LlmSettings(Settings):
    """How the llm pods are called."""

    token_file: Path = Field(description="The pods' internal token; of several lines the first is sent.")
    tls: ClientTls = ClientTls()
    connect_seconds: float = Field(
        1.0, gt=0, description="A pod that does not accept a connection within so many seconds is passed over."
    )
    first_token_seconds: float = Field(
        300.0,
        gt=0,
        description="Longest wait for the first byte, in seconds: queueing, and reading the longest prompt.",
    )
    token_seconds: float = Field(60.0, gt=0, description="Longest silence within a stream, in seconds.")
    completion_seconds: float = Field(
        600.0, gt=0, description="Longest wait for a whole, unstreamed answer, in seconds."
    )
    outage_seconds: float = Field(
        5.0, gt=0, description="Seconds that a pod which failed is left out, before it is tried again."
    )
    look_up_seconds: float = Field(
        5.0, gt=0, description="How often, in seconds, the names of `models.<name>.service` are looked up."
    )


class EmbedderSettings(Settings):
    """Where the embedder is."""

    url: HttpUrl = Field(description="Its scheme, host and port, without a path.")
    token_file: Path = Field(description="The embedder's internal token; of several lines the first is sent.")
    attribution_model: str | None = Field(
        None,
        description="The text model that finds the source of sentences which the chat model left without a citation; "
        "without one they stay so.",
    )
    tls: ClientTls = ClientTls()
    timeout_seconds: float = Field(60.0, gt=0, description="Longest wait for an answer, in seconds.")


class RetrieverSettings(Settings):
    """Where the retriever is."""

    url: HttpUrl = Field(description="Its scheme, host and port, without a path.")
    token_file: Path = Field(description="The retriever's internal token; of several lines the first is sent.")
    tls: ClientTls = ClientTls()
    timeout_seconds: float = Field(60.0, gt=0, description="Longest wait for an answer, in seconds.")


class ResponsesSettings(Settings):
    """How runs stream and how long things are kept."""

    flush_seconds: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Tokens of all runs that come within so many seconds are written and sent together; on a busy "
        "gateway within up to five times as many. A first token and an end never wait.",
    )
    unwatched_seconds: float = Field(
        30.0,
        ge=1,
        description="Seconds without a reader, after which a run that is not a background run is cancelled.",
    )
    keep_stream_seconds: float = Field(
        300.0, ge=10, description="Seconds in which late readers can replay a stream that has ended."
    )
    conversation_wait_seconds: float = Field(
        20.0,
        ge=0,
        description="Seconds that a new turn waits for the conversation's running one before it gets a 409.",
    )
    idempotency_seconds: int = Field(
        86_400, ge=60, description="Seconds that a request's idempotency key is remembered."
    )
    history_bytes: int = Field(
        64 * MEBIBYTE,
        ge=0,
        description="Memory for conversations that were opened, in plaintext, so that a turn opens only what is new. "
        "Each leaves it with its key: after 300 s, and when it is deleted. With 0 all of a conversation is opened for "
        "each turn, which takes 25 ms for a thousand items.",
    )
    send_seconds: float = Field(10.0, gt=0, description="A reader that takes more seconds for one message is cut off.")
    keep_alive_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest silence of an event stream, in seconds: then a comment goes out, so that no proxy hangs "
        "up on it.",
    )
    sockets_per_tenant: int = Field(2_000, ge=1, description="Open WebSockets of one tenant on one gateway.")
    waiting_bytes_per_tenant: int = Field(
        16 * MEBIBYTE,
        ge=1024,
        description="Size of all turns of one tenant that wait in WebSockets of one gateway for an earlier one to end.",
    )


class BodySettings(Settings):
    """How large requests may be."""

    json_bytes: int = Field(
        8 * MEBIBYTE,
        ge=1024,
        description="Any body but an upload. Reading one of 8 MiB holds the event loop for 35 ms at worst.",
    )
    json_values: int = Field(
        MOST_VALUES,
        ge=1000,
        description="JSON values in one body or WebSocket message, counted before anything is made of them; more are "
        "refused with 413.",
    )
    upload_bytes: int = Field(
        512 * MEBIBYTE, ge=1024, description="A file, as OpenAI limits it. Its multipart frame comes on top."
    )


class GatewaySettings(ServiceSettings):
    """The gateway's settings file."""

    vault: VaultSettings
    identity: IdentitySettings
    redis: RedisSettings
    models: dict[str, ModelSettings] = Field(min_length=1, description="Chat models by their public name.")
    llm: LlmSettings
    embedder: EmbedderSettings
    retriever: RetrieverSettings
    responses: ResponsesSettings = ResponsesSettings()
    bodies: BodySettings = BodySettings()
