"""Models that come and go with the settings file."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloister_common.settings import load_settings
from cloister_gateway.models import Catalog, following
from cloister_gateway.settings import GatewaySettings

from tests.support.waiting import until

MODEL = {"urls": ["http://127.0.0.1:1"], "context_tokens": 2048}


def settings(**models: Any) -> str:
    part = {"url": "http://127.0.0.1:1", "token_file": "token"}
    return yaml.safe_dump(
        {
            "server": {"port": 1, "metrics_port": 2},
            "vault": {"root_key_file": "root"},
            "identity": {"pepper_file": "pepper"},
            "redis": {"url": "redis://127.0.0.1:1"},
            "models": models,
            "llm": {"token_file": "token"},
            "embedder": part,
            "retriever": part,
        }
    )


async def test_models_follow_the_file_and_a_mistake_in_it_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(cls: type[GatewaySettings], path: Path) -> GatewaySettings:
        read.append(path.read_text())
        return load_settings(cls, path)

    monkeypatch.setattr(following, "load_settings", reading)
    file = tmp_path / "gateway.yaml"
    file.write_text(settings(a=MODEL))
    catalog = Catalog([])
    seen: list[list[str]] = []
    catalog.subscribe(lambda: seen.append([model.name for model in catalog]))
    task = asyncio.create_task(following.follow_models(file, catalog, every=0.005))
    try:
        await until(lambda: catalog.find("a"))
        for wrong in (settings(a=MODEL, b={**MODEL, "context_tokens": 1}), settings(), "models: ["):
            file.write_text(wrong)
            await until(partial(read.__contains__, wrong))
        file.write_text(settings(a=MODEL, c={**MODEL, "projects": ["proj_a"]}))
        await until(lambda: catalog.find("c"))
        file.write_text(settings(c={**MODEL, "projects": ["proj_a"]}))
        await until(lambda: not catalog.find("a"))
        file.unlink()
    finally:
        task.cancel()
    assert seen == [["a"], ["a", "c"], ["c"]]
