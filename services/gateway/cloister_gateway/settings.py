"""What the gateway can be told: one YAML file, read once at start. Everything else derives from it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from cloister_common.browsers import Origin
from cloister_common.settings import ClientTls, ServiceSettings, Settings, SharedServerSettings
from cloister_common.values import MOST_VALUES
from pydantic import Field, StringConstraints, field_validator, model_validator

from cloister_gateway.batch_settings import BatchSettings
from cloister_gateway.history_settings import HistorySettings
from cloister_gateway.limit_settings import LimitSettings, UsageSettings
from cloister_gateway.model_settings import HttpUrl, KubernetesSettings, LlmSettings, ModelSettings

__all__ = [
    "AdmissionSettings",
    "BodySettings",
    "BrowserSettings",
    "EmbedderSettings",
    "GatewaySettings",
    "IdentitySettings",
    "RedisClusterSettings",
    "RedisSentinelSettings",
    "RedisSettings",
    "ResponsesSettings",
    "RetrieverSettings",
    "VaultSettings",
]

RedisUrl = Annotated[str, StringConstraints(pattern=r"^rediss?://[^/@\s]+(/\d+)?$")]
"""``redis://host:port[/db]`` or ``rediss://`` for TLS. Credentials go into files, never into the URL."""

RedisServerUrl = Annotated[str, StringConstraints(pattern=r"^rediss?://[^/@\s]+$")]
"""The same without a database: a sentinel, or a node of a cluster."""

MEBIBYTE = 1024 * 1024


def _of_one_scheme(urls: list[str]) -> list[str]:
    if len({url.split(":", 1)[0] for url in urls}) > 1:
        raise ValueError("all of them must begin with redis://, or all with rediss://")
    return urls


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


class BrowserSettings(Settings):
    """Which pages may call from a browser."""

    origins: list[Origin] = Field(
        [],
        description="Origins of pages that may call the API and open WebSockets, each exactly as browsers send it: "
        "`https://chat.example.org`. Their scripts may read answers (CORS, never with cookies); a WebSocket from a "
        "page of any other origin is refused, whatever key it has. List a page that shares its origin with the API "
        "too: browsers name that as well when they open a WebSocket.",
    )


class RedisSentinelSettings(Settings):
    """Sentinels, which know the master and make another one when it dies."""

    urls: list[RedisServerUrl] = Field(
        min_length=1,
        description="`redis://host:port` of each sentinel, or `rediss://` where they and the Redis they watch speak "
        "TLS; all alike.",
    )
    service: str = Field(min_length=1, description="The name by which the sentinels know the master.")
    database: int = Field(0, ge=0, description="The number of the database.")
    username: str | None = Field(None, description="The sentinels' own ACL user, which is not that of Redis.")
    password_file: Path | None = Field(None, description="The password that the sentinels themselves want.")

    _alike = field_validator("urls")(_of_one_scheme)


class RedisClusterSettings(Settings):
    """A Redis Cluster, 7.0 or newer."""

    urls: list[RedisServerUrl] = Field(
        min_length=1,
        description="`redis://host:port` of some nodes, or `rediss://` for TLS; all alike. The others are learned from "
        "the first of them that answers.",
    )

    _alike = field_validator("urls")(_of_one_scheme)


class RedisSettings(Settings):
    """The store of everything the gateway keeps: one Redis, one that sentinels watch, or a cluster."""

    url: RedisUrl | None = Field(
        None,
        description="One Redis: `redis://host:port[/db]`, or `rediss://` for TLS. Credentials go into files, never "
        "into the URL.",
    )
    sentinel: RedisSentinelSettings | None = Field(None, description="Instead of `url`: a Redis that sentinels watch.")
    cluster: RedisClusterSettings | None = Field(None, description="Instead of `url`: a Redis Cluster.")
    username: str | None = Field(None, description="The ACL user; without one, Redis's default user.")
    password_file: Path | None = Field(None, description="The user's password.")
    tls: ClientTls = ClientTls()
    replicas_to_wait: int = Field(
        0,
        ge=0,
        description="How many replicas must have a write, each on its own disk, before it is acknowledged (Redis's "
        "`WAIT`). With 0, what was acknowledged in the moment before a failover can be lost by it.",
    )
    wait_milliseconds: int = Field(
        1000,
        ge=1,
        description="How long the replicas may take for it. What too few of them confirm in that time is not "
        "acknowledged: callers get a 503, and may ask again under the same idempotency key.",
    )
    durability: Literal["required", "best_effort"] = Field(
        "required",
        description="`required` refuses to start on a Redis that may lose acknowledged writes in a power cut (no "
        "append-only file, or without `appendfsync always`), that may evict keys, or whose default user may not do "
        "what transactions do: Redis replays them as that user, which may be `off`. `best_effort` warns.",
    )
    connections: int = Field(
        64,
        ge=4,
        description="Connections, beside the four that commands share, for transactions that need one to themselves "
        "(administration); callers wait for a free one.",
    )
    timeout_seconds: float = Field(
        5.0, gt=0, description="Longest wait for a reply, and for a free connection, in seconds."
    )
    start_seconds: float = Field(30.0, ge=0, description="Seconds that the start waits for Redis to be there.")

    @model_validator(mode="after")
    def _redis_is_found_in_one_way(self) -> Self:
        given = [name for name in ("url", "sentinel", "cluster") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"give one of url, sentinel and cluster, which say where Redis is; {found} is given")
        if self.replicas_to_wait and self.wait_milliseconds >= self.timeout_seconds * 1000:
            raise ValueError("wait_milliseconds must be less than timeout_seconds, or no write could ever wait so long")
        return self

    @property
    def given(self) -> str:
        """The setting that says where it is."""
        return "redis.cluster" if self.cluster is not None else "redis.sentinel" if self.sentinel else "redis.url"

    @property
    def servers(self) -> list[str]:
        """The URLs of the servers to begin with: the Redis, its sentinels, or nodes of the cluster."""
        if self.cluster is not None:
            return self.cluster.urls
        if self.sentinel is not None:
            return self.sentinel.urls
        return [self.url] if self.url is not None else []

    @property
    def place(self) -> str:
        """Where Redis is, in words for a message."""
        servers = ", ".join(self.servers)
        if self.cluster is not None:
            return f"The Redis Cluster at {servers}"
        if self.sentinel is not None:
            return f"Redis '{self.sentinel.service}' of the sentinels at {servers}"
        return f"Redis at {servers}"


class EmbedderSettings(Settings):
    """Where the embedder is."""

    url: HttpUrl = Field(description="Its scheme, host and port, without a path.")
    token_file: Path = Field(description="The embedder's internal token; of several lines the first is sent.")
    attribution_model: str | None = Field(
        None,
        description="The text model by which sentences of an answer are compared with the passages that may be their "
        "source; without one only what is said in the same words is cited.",
    )
    tls: ClientTls = ClientTls()
    timeout_seconds: float = Field(60.0, gt=0, description="Longest wait for an answer, in seconds.")


class RetrieverSettings(Settings):
    """Where the retriever is."""

    url: HttpUrl = Field(description="Its scheme, host and port, without a path.")
    token_file: Path = Field(description="The retriever's internal token; of several lines the first is sent.")
    least_score: float = Field(
        0.45,
        ge=0,
        le=1,
        description="The least score of a passage that a turn's `file_search` takes for an answer to the question, "
        "where its caller sets no `score_threshold`. With none left the model is told that it is not in the documents. "
        "With the bundled model the default leaves 97 of 100 questions their passages, and takes them from 74 of 100 "
        "that the documents do not answer; with 0.5 these are 93 and 86. In German, which that model does not know (42 "
        "questions to manual pages, 40 others), the default leaves 86 of 100, and takes 98 of 100; 0.35 leaves 95, and "
        "takes 92. Another model wants another number.",
    )
    pictures: int = Field(
        3,
        ge=0,
        le=16,
        description="Most pictures of passages in the prompt of one turn, of the best first, beside their texts. For "
        "models that take images (`models.<name>.images`), and only as many as those that people show leave room for; "
        "0: none.",
    )
    rewrite_model: str | None = Field(
        None,
        min_length=1,
        description="The chat model that writes queries which stand alone: for `rewrite_query` of a search, and of the "
        "tool `file_search`. Without one these are refused.",
    )
    rewrite_turns: bool = Field(
        False,
        description="Whether it writes one for every turn with `file_search` after the first of a conversation, where "
        "the caller does not say. It is searched for beside the user's own words, and costs the turn its time.",
    )
    rewrite_seconds: float = Field(
        3.0, gt=0, le=30, description="Longest wait for such a query; then the search goes on without it."
    )
    tls: ClientTls = ClientTls()
    timeout_seconds: float = Field(60.0, gt=0, description="Longest wait for an answer, in seconds.")

    @model_validator(mode="after")
    def _somebody_rewrites(self) -> Self:
        if self.rewrite_turns and self.rewrite_model is None:
            raise ValueError("rewrite_turns needs rewrite_model: name a chat model")
        return self


class ResponsesSettings(Settings):
    """How runs stream and how long things are kept."""

    flush_seconds: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Tokens of all runs that come within so many seconds are written and sent together; the more runs "
        "there are the more, up to five times as many. A first token and an end never wait.",
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
        description="Memory for conversations and chains of responses that were opened, in plaintext, so that a turn "
        "opens only what is new. Each leaves it with its key: after 300 s, and when it is deleted. With 0 all of them "
        "is opened for each turn, which takes 25 ms for a thousand items.",
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
        description="Size of all turns of one tenant that wait in WebSockets of one gateway, for an earlier one to end "
        "or for a place.",
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


class AdmissionSettings(Settings):
    """How many generations (answers, chat completions, embeddings) a gateway does at once, and who waits for a place.

    The gateway finds the number out by itself, from how late its event loop and its Redis are.
    """

    most_generations: int = Field(
        4_000, ge=1, description="Generations at once at most, however well the gateway keeps up."
    )
    least_generations: int = Field(
        16, ge=1, description="Generations at once that are always taken, however late everything is."
    )
    lag_seconds: float = Field(
        0.1,
        gt=0,
        description="With its event loop later than this, smoothed over half a second, a gateway takes fewer "
        "generations than it has; with less than half of it, more if asked to.",
    )
    redis_seconds: float = Field(0.25, gt=0, description="The same for the time that Redis takes to answer a ping.")
    waiting: int = Field(
        1_000,
        ge=0,
        description="Requests that wait for a place, tenants taking turns. One tenant may have as many waiting as the "
        "queue has room left: half of it alone. Those over it are a 429 at once.",
    )
    wait_seconds: float = Field(
        10.0,
        ge=0,
        description="A request that would have to wait longer, at the rate at which places become free, is a 429 at "
        "once, with Retry-After by the same rate.",
    )
    shares: dict[str, Annotated[float, Field(gt=0, le=1_000)]] = Field(
        {},
        description="What projects (by their ids) get of what there is while others wait too, against the 1 of a "
        "project that is not named: one with 3 gets three times the tokens.",
    )
    model_waiting: int = Field(
        1_000,
        ge=0,
        description="Requests of a class (interactive, background) that wait for a model whose pods have as many "
        "tokens under way as they hold; one tenant may have as many waiting as there is room left. Those over it are "
        "a 429 at once. Lines of batches wait outside of it.",
    )
    model_wait_seconds: float = Field(
        120.0,
        ge=0,
        description="An interactive request that would have to wait longer for its model, at the rate at which tokens "
        "leave the queue, is a 429 at once, with Retry-After by the same rate.",
    )
    crowd_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="What a crowd may have of a model's pods while others come who want no more than their share: "
        "tenants who want more, background runs and batches, all together. Less keeps the others' first tokens nearer "
        "to what they would be alone; more computes more meanwhile. Where nobody else comes, all have all.",
    )

    def share_of(self, project: str) -> float:
        """The share of a project."""
        return self.shares.get(project, 1.0)


class GatewaySettings(ServiceSettings):
    """The gateway's settings file."""

    server: SharedServerSettings
    vault: VaultSettings
    identity: IdentitySettings
    redis: RedisSettings
    models: dict[str, ModelSettings] = Field(
        min_length=1, description="Chat models by their public name. Taken over while the gateway runs."
    )
    llm: LlmSettings
    kubernetes: KubernetesSettings = KubernetesSettings()
    embedder: EmbedderSettings
    retriever: RetrieverSettings
    responses: ResponsesSettings = ResponsesSettings()
    history: HistorySettings = HistorySettings()
    admission: AdmissionSettings = AdmissionSettings()
    limits: LimitSettings = LimitSettings()
    usage: UsageSettings = UsageSettings()
    batches: BatchSettings = BatchSettings()
    bodies: BodySettings = BodySettings()
    browsers: BrowserSettings = BrowserSettings()
