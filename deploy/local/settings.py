"""What the local runner can be told: ``local.yaml``, and a file of the user's laid over it key by key."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from cloister_common.settings import LogSettings, Settings
from pydantic import Field, ValidationError, model_validator

from deploy.local.faults import NotReadyToStart

__all__ = ["REPOSITORY", "LocalSettings", "Ports", "laid_over", "load_local_settings"]

REPOSITORY = Path(__file__).resolve().parents[2]
_DEFAULTS = Path(__file__).with_name("local.yaml")

Port = Annotated[int, Field(ge=1, le=65535)]


class Ports(Settings):
    """One port for each part, and one for the metrics of each service of ours."""

    gateway: Port
    gateway_metrics: Port
    embedder: Port
    embedder_metrics: Port
    retriever: Port
    retriever_metrics: Port
    llm: Port
    llm_metrics: Port
    redis: Port
    scale: Port

    @model_validator(mode="after")
    def _all_different(self) -> Self:
        numbers = list(self.model_dump().values())
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        if twice:
            raise ValueError(f"port {twice[0]} is given to two parts")
        return self


class GatewayDoor(Settings):
    """Where callers reach the gateway, and with which certificate."""

    host: str
    public_host: str
    certificate_file: Path | None
    key_file: Path | None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together: set both or neither")
        return self


class ChatModel(Settings):
    """The model vLLM serves, and the settings of its engine."""

    name: str
    path: Path | None
    max_model_len: int = Field(ge=128)
    kv_cache_gib: float = Field(gt=0)
    eager: bool
    tool_parser: str | None
    reasoning_parser: str | None
    images: int | None = Field(ge=0, le=64)
    mode: Literal["dedicated", "serverless"]
    idle_seconds: float = Field(gt=0)


class EmbeddingModel(Settings):
    """The sentence-transformers folder the embedder serves."""

    name: str
    path: Path | None


class Paths(Settings):
    """Folders and programs the runner uses. Relative paths start at the repository."""

    models: Path
    llm_python: Path
    redis_server: str


class Restart(Settings):
    """What happens when a part dies while the stack runs."""

    pause_seconds: float = Field(ge=0)
    longest_pause_seconds: float = Field(ge=0)
    limit: int | None = Field(ge=0)


class Needs(Settings):
    """What must be free before anything is started."""

    memory_gib: float = Field(ge=0)
    disk_gib: float = Field(ge=0)


class Disk(Settings):
    """What must stay free while the stack runs."""

    min_free_mib: int = Field(ge=0)


class Overrides(Settings):
    """Keys laid over the rendered settings file of a service."""

    gateway: dict[str, Any]
    embedder: dict[str, Any]
    retriever: dict[str, Any]
    llm: dict[str, Any]


class LocalSettings(Settings):
    """The whole of ``local.yaml``; each key is explained there."""

    ports: Ports
    gateway: GatewayDoor
    chat_model: ChatModel
    embedding_model: EmbeddingModel
    paths: Paths
    start_seconds: float = Field(gt=0)
    stop_seconds: float = Field(gt=0)
    restart: Restart
    needs: Needs
    disk: Disk
    log: LogSettings
    overrides: Overrides

    @property
    def base_url(self) -> str:
        """What OpenAI's clients are given."""
        scheme = "https" if self.gateway.certificate_file else "http"
        return f"{scheme}://{self.gateway.public_host}:{self.ports.gateway}/v1"


def load_local_settings(override: Path | None) -> LocalSettings:
    """The defaults with ``override`` laid over them.

    Raises:
        NotReadyToStart: The file cannot be read, is not YAML, or has an unknown or wrong key (which is named).
    """
    values: Any = yaml.safe_load(_DEFAULTS.read_text(encoding="utf-8"))
    if override is not None:
        try:
            given = yaml.safe_load(override.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise NotReadyToStart(f"Cannot read the settings file {override}: {error.strerror}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise NotReadyToStart(f"The settings file {override} is not YAML: {error}.") from error
        values = laid_over(values, given)
    try:
        return LocalSettings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"]) or "the file"
        raise NotReadyToStart(f"The settings file {override or _DEFAULTS} is wrong: {key}: {fault['msg']}.") from error


def laid_over(base: Any, top: Any) -> Any:
    """``base`` with the keys of ``top`` put over it, maps within maps; anything else of ``top`` replaces."""
    if not isinstance(base, dict) or not isinstance(top, dict):
        return top
    return base | {key: laid_over(base.get(key), value) for key, value in top.items()}
