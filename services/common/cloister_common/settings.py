"""The one settings path: a YAML file (in a cluster, the ConfigMap) → a pydantic class that forbids unknown keys.

Nothing outside the ``settings.py`` files reads configuration, and nothing reads the environment. Secrets are never
in the file: it names files that hold them (in a cluster, a mounted Secret), and `read_secret` refuses an empty one
or a placeholder with a sentence that says how to mend it.
"""

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

__all__ = [
    "ClientTls",
    "ConnectionLimits",
    "LogSettings",
    "ServerSettings",
    "ServerTls",
    "ServiceSettings",
    "SettingsError",
    "SharedServerSettings",
    "load_log_settings",
    "load_settings",
    "read_secret",
    "read_secret_lines",
]

Port = Annotated[int, Field(ge=1, le=65535)]

_PLACEHOLDER = re.compile(rb"^(change[-_ ]?me|placeholder|todo|secret|password|example|xxx+|<.*>)$", re.IGNORECASE)


class SettingsError(Exception):
    """Settings that a process must not start with. The message is one sentence for the operator."""


class Settings(BaseModel):
    """Base of every settings section: unknown keys are errors, values do not change after start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerTls(Settings):
    """A certificate this process serves, with TLS 1.3. Both files are watched: a renewed pair needs no restart."""

    certificate_file: Path = Field(description="PEM: the certificate, and those between it and its CA.")
    key_file: Path = Field(description="PEM: its private key, without a passphrase.")


class ClientTls(Settings):
    """How this process checks the servers it calls."""

    ca_file: Path | None = Field(None, description="CA bundle to trust instead of the system's.")


class ConnectionLimits(Settings):
    """What one connection may take, before anyone has looked at its key and after.

    They hold on the API's port and on the metrics'. A response is never cut while it is being read.
    """

    connections: int = Field(
        4096,
        ge=16,
        description="Open connections. At the limit the one that has waited longest without a request makes room; "
        "where all have one, a new one is a 503. The process may open 1,024 files more than that, or does not start.",
    )
    head_bytes: int = Field(
        32 * 1024,
        ge=1024,
        le=64 * 1024,
        description="Bytes of a request's URL and headers, else 431. Trailers and extensions of chunks count too.",
    )
    headers: int = Field(100, ge=8, le=1000, description="Headers of a request, else 431.")
    head_seconds: float = Field(
        20.0,
        gt=0,
        description="Seconds from the connection, or a further request's first byte, to the end of the head, the TLS "
        "handshake included, else 408.",
    )
    body_bytes_per_second: int = Field(
        1024,
        ge=0,
        description="The least rate of a body, else 408. Time in which the service does not read is not counted.",
    )
    body_window_seconds: float = Field(20.0, gt=0, description="Seconds over which that rate is the mean.")
    body_seconds: float = Field(
        7200.0,
        gt=0,
        description="Longest time for a whole body, counted in the same way, else 408. 512 MiB need 75 kB a second.",
    )
    unread_seconds: float = Field(
        60.0, gt=0, description="A client that takes nothing of a response for so many seconds is cut off."
    )
    frames_per_message: int = Field(
        1024, ge=1, description="Fragments of a WebSocket message, else it is closed with 1009."
    )
    frames_per_second: int = Field(
        1024, ge=1, description="Frames on a WebSocket, pings and fragments too, else it is closed with 1008."
    )
    frame_bytes_per_second: int = Field(
        64 * 1024 * 1024, ge=1024, description="Bytes of these frames, else the WebSocket is closed with 1008."
    )


class ServerSettings(Settings):
    """Where a service listens."""

    host: str = Field("127.0.0.1", description="The address to listen on; `0.0.0.0` or `::` for every one there is.")
    port: Port = Field(description="The API's port.")
    metrics_port: Port = Field(description="Prometheus metrics, on a port of their own, without authentication.")
    tls: ServerTls | None = None
    limits: ConnectionLimits = ConnectionLimits()
    shutdown_seconds: float = Field(20.0, ge=0, description="Seconds that open requests may take after SIGTERM.")


class SharedServerSettings(ServerSettings):
    """Where a service listens that may be several processes: one that holds nothing which is dear to hold twice."""

    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share the port; a core each is worth it. Each is a service of its own: all limits, "
        "`server.limits` too, are those of one process.",
    )


class LogSettings(Settings):
    """What is logged. Content never is, at any level."""

    level: str = Field(
        "info",
        pattern="^(debug|info|warning|error)$",
        description="`debug`, `info`, `warning` or `error`. Taken over while the service runs.",
    )


class ServiceSettings(Settings):
    """What every service's settings class has."""

    server: ServerSettings
    log: LogSettings = LogSettings()
    _file: Path | None = PrivateAttr(None)

    @property
    def file(self) -> Path | None:
        """Where they were read from, for what is taken over while the service runs."""
        return self._file


S = TypeVar("S", bound=BaseModel)


def load_settings(cls: type[S], path: Path) -> S:
    """Reads ``path`` (YAML) into ``cls``.

    Raises:
        SettingsError: The file is missing, is not YAML, or has a missing, unknown or wrong key (which it names).
    """
    settings = _validated(cls, _yaml(path), path)
    if isinstance(settings, ServiceSettings):
        settings._file = path
    return settings


def load_log_settings(path: Path) -> LogSettings:
    """Reads only the ``log`` section of a settings file.

    Raises:
        SettingsError: As `load_settings`.
    """
    data = _yaml(path)
    return _validated(LogSettings, data.get("log", {}) if isinstance(data, dict) else data, path)


def _yaml(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"Cannot read the settings file {path}: {error.strerror}.") from error
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"The settings file {path} is not YAML: {error}.") from error


def _validated(cls: type[S], data: Any, path: Path) -> S:
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"The settings file {path} is wrong: {faults}.") from error


def read_secret(path: Path, *, what: str, min_bytes: int = 16) -> bytes:
    """The content of a secret file, without a trailing newline.

    Args:
        path: The file.
        what: What the secret is, for the error sentence.
        min_bytes: The least length that is accepted.

    Raises:
        SettingsError: Missing, empty, too short, or an obvious placeholder.
    """
    try:
        value = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise SettingsError(
            f"Cannot read {what} from {path}: {error.strerror}. Create the file (mode 600) with a random value, "
            f"for example: openssl rand -hex 32 > {path}"
        ) from error
    if _PLACEHOLDER.match(value) or len(value) < min_bytes:
        raise SettingsError(
            f"{what} in {path} is a placeholder or shorter than {min_bytes} bytes. Put a random value there, "
            f"for example: openssl rand -hex 32 > {path}"
        )
    return value


def read_secret_lines(path: Path, *, what: str, min_bytes: int = 32) -> list[bytes]:
    """Several values of one secret, one a line: the first is used, all are accepted, so that it can be rotated."""
    lines = [line.strip() for line in read_secret(path, what=what, min_bytes=min_bytes).splitlines() if line.strip()]
    if any(_PLACEHOLDER.match(line) or len(line) < min_bytes for line in lines):
        raise SettingsError(f"{what} in {path} has a line shorter than {min_bytes} bytes. Put random values there.")
    return lines
