"""Gateways for tests: settings over real files and a real redis-server, keys to call with, several at a time."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cloister_common.testing.serving import served
from cloister_gateway.app import create_app
from cloister_gateway.commands import open_directory
from cloister_gateway.organization.service import FirstKeys
from cloister_gateway.settings import GatewaySettings

__all__ = ["GatewayFixture", "first_keys", "gateway_settings", "secret_file"]

INTERNAL_TOKEN = "internal-token-of-the-tests-0123456789"  # as every fake service of the tests expects it


def secret_file(folder: Path, name: str, value: str | None = None) -> Path:
    """A file with ``value``, or with a random secret that it keeps from then on."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if value is not None or not path.exists():
        path.write_text(value or secrets.token_hex(32), encoding="utf-8")
    return path


class _Store(Protocol):
    @property
    def settings(self) -> dict[str, object]:
        """The ``redis`` section of a gateway's settings."""


def gateway_settings(folder: Path, server: _Store, /, **sections: Any) -> GatewaySettings:
    """Settings of a gateway that find their secrets in ``folder``. ``sections`` replace whole sections."""
    token = str(secret_file(folder, "token", INTERNAL_TOKEN))
    values: dict[str, Any] = {
        "server": {"port": 1, "metrics_port": 1},
        "vault": {"root_key_file": str(secret_file(folder, "root"))},
        "identity": {"pepper_file": str(secret_file(folder, "pepper"))},
        "redis": server.settings,
        "models": {"fake": {"urls": ["http://127.0.0.1:1"], "context_tokens": 2048}},
        # Most tests that have no pod want to see what comes of it.
        "llm": {"token_file": token, "loading_seconds": 0},
        "embedder": {"url": "http://127.0.0.1:1", "token_file": token},
        "retriever": {"url": "http://127.0.0.1:1", "token_file": token},
        **sections,
    }
    return GatewaySettings.model_validate(values)


@dataclass(frozen=True)
class GatewayFixture:
    """What a test needs to call gateways over one Redis.

    Attributes:
        settings: The settings all of them share.
        project_key: A key of the default project.
        admin_key: An administration key.
    """

    settings: GatewaySettings
    project_key: str = field(repr=False)
    admin_key: str = field(repr=False)

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """One more gateway on a port of its own; gives its base URL, without ``/v1``."""
        with served(create_app(self.settings)) as url:
            yield url

    def headers(self, key: str | None = None) -> Mapping[str, str]:
        """The headers of a call with ``key``, by default the project's."""
        return {"authorization": f"Bearer {key or self.project_key}"}


def first_keys(settings: GatewaySettings) -> GatewayFixture:
    """Makes the first keys of an installation."""

    async def bootstrap() -> FirstKeys:
        async with open_directory(settings) as directory:
            return await directory.bootstrap()

    keys = asyncio.run(bootstrap())
    assert keys.project is not None
    assert keys.admin is not None
    return GatewayFixture(settings, keys.project.token, keys.admin.token)
