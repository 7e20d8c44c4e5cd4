"""Renders the services' settings files into ``var/config`` from the runner's one settings file.

The same keys as in a cluster, where the chart renders them into ConfigMaps: a service cannot tell the difference.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cloister_llm.families import default_images

from deploy.local import models, scale
from deploy.local.disk import CLOSED
from deploy.local.keys import write_private
from deploy.local.settings import REPOSITORY, LocalSettings, laid_over

__all__ = ["Layout", "redis_configuration", "render", "service_settings"]


@dataclass(frozen=True)
class Layout:
    """Where everything of one installation lies."""

    var: Path

    @property
    def secrets(self) -> Path:
        return self.var / "secrets"

    @property
    def config(self) -> Path:
        return self.var / "config"

    @property
    def kubeconfig(self) -> Path:
        """What leads the gateway to what starts and stops parts."""
        return self.config / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.var / "log"

    @property
    def cache(self) -> Path:
        return self.var / "cache"

    @property
    def milvus_socket(self) -> Path:
        return self.var / "milvus.sock"

    def data(self, part: str) -> Path:
        """The folder of one part's data: ``redis``, ``milvus`` or ``blobs``."""
        return self.var / part


def render(settings: LocalSettings, layout: Layout) -> None:
    """Writes ``redis.conf`` and one YAML file per service."""
    layout.config.mkdir(parents=True, exist_ok=True)
    password = (layout.secrets / "redis-password").read_text().strip()
    write_private(layout.config / "redis.conf", redis_configuration(settings, layout, password))
    if settings.chat_model.mode == "serverless":
        token = (layout.secrets / "scale-token").read_text().strip()
        write_private(layout.kubeconfig, scale.kubeconfig(settings.ports.scale, token))
    for service, values in service_settings(settings, layout).items():
        text = yaml.safe_dump(values, sort_keys=False)
        (layout.config / f"{service}.yaml").write_text(
            f"# Rendered at each start from deploy/local: change var/local.yaml instead.\n{text}"
        )


def redis_configuration(settings: LocalSettings, layout: Layout, password: str) -> str:
    """``redis.conf``: nothing acknowledged is lost in a power cut, nothing is evicted, only loopback is served.

    It starts closed: `deploy.local.disk.RedisGuard` opens it when it has seen that there is room on the disk.
    """
    return "\n".join(
        [
            "bind 127.0.0.1",
            f"port {settings.ports.redis}",
            "protected-mode yes",
            f"requirepass {password}",
            f'dir "{layout.data("redis")}"',
            "daemonize no",
            "appendonly yes",
            "appendfsync always",
            "maxmemory-policy noeviction",
            CLOSED,
            # The append-only file is the store; a second copy in an RDB file would only cost time.
            'save ""',
            "",
        ]
    )


def service_settings(settings: LocalSettings, layout: Layout) -> dict[str, dict[str, Any]]:
    """The settings of each service of ours, by its name."""
    ports, secrets = settings.ports, layout.secrets
    embedding_path = str(_model_path(settings, settings.embedding_model.path, models.EMBEDDING_MODEL))
    chat_path = str(_model_path(settings, settings.chat_model.path, models.CHAT_MODEL))
    root_key = str(secrets / "root-key")
    embedder = {"url": f"http://127.0.0.1:{ports.embedder}", "token_file": str(secrets / "embedder-token")}
    images = settings.chat_model.images
    if images is None:
        images = default_images(Path(chat_path))
    rendered: dict[str, dict[str, Any]] = {
        "embedder": {
            "server": _server(settings, "embedder"),
            "token_file": str(secrets / "embedder-token"),
            "models": {settings.embedding_model.name: {"kind": "text", "path": embedding_path, "dtype": "auto"}},
            "compute": {"measurements": str(layout.cache / "embedder")},
        },
        "retriever": {
            "server": _server(settings, "retriever"),
            "role": "all",
            "token_file": str(secrets / "retriever-token"),
            "vault": {"root_key_file": root_key},
            "embedder": embedder | {"model": settings.embedding_model.name},
            "milvus": {"uri": f"unix:{layout.milvus_socket}"},
            "blobs": {"url": f"file://{layout.data('blobs')}", "min_free_mib": settings.disk.min_free_mib},
            "ingestion": {"tokenizer_path": embedding_path},
        },
        "llm": {
            "server": _server(settings, "llm"),
            "token_file": str(secrets / "llm-token"),
            "model": {
                "name": settings.chat_model.name,
                "path": chat_path,
                "tool_parser": settings.chat_model.tool_parser,
                "reasoning_parser": settings.chat_model.reasoning_parser,
                "images": images,
            },
            "engine": {
                "max_model_len": settings.chat_model.max_model_len,
                "kv_cache_gib": settings.chat_model.kv_cache_gib,
                "eager": settings.chat_model.eager,
                "nice": 0,  # The runner has set it, for every part.
                "cache_dir": str(layout.cache / "llm"),
            },
        },
        "gateway": {
            "server": _server(settings, "gateway"),
            "vault": {"root_key_file": root_key},
            "identity": {"pepper_file": str(secrets / "pepper")},
            "redis": {
                "url": f"redis://127.0.0.1:{ports.redis}",
                "password_file": str(secrets / "redis-password"),
            },
            "models": {
                settings.chat_model.name: {
                    "urls": [f"http://127.0.0.1:{ports.llm}"],
                    "context_tokens": settings.chat_model.max_model_len,
                    "images": images,
                    **_sampling(Path(chat_path)),
                    **_rests(settings),
                }
            },
            **_scaled_by(settings, layout),
            "llm": {"token_file": str(secrets / "llm-token")},
            "embedder": embedder | {"attribution_model": settings.embedding_model.name},
            "retriever": {
                "url": f"http://127.0.0.1:{ports.retriever}",
                "token_file": str(secrets / "retriever-token"),
            },
        },
    }
    return {
        name: laid_over(values | {"log": {"level": settings.log.level}}, getattr(settings.overrides, name))
        for name, values in rendered.items()
    }


def _rests(settings: LocalSettings) -> dict[str, Any]:
    """When the model rests, and that the runner starts and stops it."""
    if settings.chat_model.mode == "dedicated":
        return {}
    workload = {"namespace": scale.NAMESPACE, "kind": "statefulset", "name": "llm"}
    return {
        "mode": settings.chat_model.mode,
        "waking": {
            "workload": workload,
            "idle_seconds": settings.chat_model.idle_seconds,
            "deadline_seconds": settings.start_seconds,
        },
    }


def _scaled_by(settings: LocalSettings, layout: Layout) -> dict[str, Any]:
    if settings.chat_model.mode == "dedicated":
        return {}
    return {"kubernetes": {"kubeconfig_file": str(layout.kubeconfig)}}


def _sampling(model: Path) -> dict[str, Any]:
    """How the model's authors advise to sample, where they do: the gateway tells its pods, and its callers."""
    try:
        advice = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {name: advice[name] for name in ("temperature", "top_p") if advice.get(name) is not None}


def _server(settings: LocalSettings, service: str) -> dict[str, Any]:
    server: dict[str, Any] = {
        "host": settings.gateway.host if service == "gateway" else "127.0.0.1",
        "port": getattr(settings.ports, service),
        "metrics_port": getattr(settings.ports, f"{service}_metrics"),
        # Less than the runner waits before it kills.
        "shutdown_seconds": max(0.0, settings.stop_seconds - 5.0),
    }
    if service == "gateway" and settings.gateway.certificate_file and settings.gateway.key_file:
        server["tls"] = {
            "certificate_file": str(REPOSITORY / settings.gateway.certificate_file),
            "key_file": str(REPOSITORY / settings.gateway.key_file),
        }
    return server


def _model_path(settings: LocalSettings, given: Path | None, bundled: models.Model) -> Path:
    if given is not None:
        return REPOSITORY / given
    return REPOSITORY / settings.paths.models / bundled.name
