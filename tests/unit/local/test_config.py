"""The rendered settings files are what the services' own settings classes accept, and hold no secret."""

from pathlib import Path

import pytest
import yaml
from cloister_common.settings import ServiceSettings, load_settings
from cloister_embedder.settings import EmbedderSettings
from cloister_gateway.settings import GatewaySettings
from cloister_llm.settings import LlmSettings
from cloister_retriever.settings import RetrieverSettings

from deploy.local.config import Layout, redis_configuration, render, service_settings
from deploy.local.keys import SECRETS, ensure_secrets
from deploy.local.settings import LocalSettings, load_local_settings

CLASSES: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "embedder": EmbedderSettings,
    "retriever": RetrieverSettings,
    "llm": LlmSettings,
}


@pytest.fixture
def rendered(settings: LocalSettings, layout: Layout) -> Layout:
    ensure_secrets(layout.secrets)
    render(settings, layout)
    return layout


@pytest.mark.parametrize("service", CLASSES)
def test_each_service_accepts_its_rendered_file(rendered: Layout, service: str) -> None:
    loaded = load_settings(CLASSES[service], rendered.config / f"{service}.yaml")
    assert loaded.server.host == "127.0.0.1"


def test_no_secret_stands_in_a_service_file(rendered: Layout) -> None:
    values = [(rendered.secrets / name).read_text().strip() for name in SECRETS]
    for path in rendered.config.glob("*.yaml"):
        assert not [value for value in values if value in path.read_text()]


def test_redis_keeps_what_it_acknowledged_and_is_private(rendered: Layout, settings: LocalSettings) -> None:
    (rendered.config / "redis.conf").chmod(0o644)
    render(settings, rendered)
    lines = redis_configuration(settings, rendered, "password").splitlines()
    assert {"bind 127.0.0.1", "appendonly yes", "appendfsync always", "maxmemory-policy noeviction"} <= set(lines)
    assert (rendered.config / "redis.conf").stat().st_mode & 0o777 == 0o600


def test_the_model_says_its_parsers_unless_they_are_named(tmp_path: Path, layout: Layout) -> None:
    override = tmp_path / "mine.yaml"
    override.write_text("chat_model: {tool_parser: mistral, reasoning_parser: none}\n")
    found, named = (service_settings(load_local_settings(path), layout)["llm"]["model"] for path in (None, override))
    assert (found["tool_parser"], found["reasoning_parser"]) == (None, None)
    assert (named["tool_parser"], named["reasoning_parser"]) == ("mistral", "none")


def test_only_the_gateway_can_listen_beyond_loopback(tmp_path: Path, layout: Layout) -> None:
    override = tmp_path / "mine.yaml"
    override.write_text("gateway: {host: 0.0.0.0}\n")
    hosts = {
        name: values["server"]["host"]
        for name, values in service_settings(load_local_settings(override), layout).items()
    }
    assert hosts == {"gateway": "0.0.0.0", "embedder": "127.0.0.1", "retriever": "127.0.0.1", "llm": "127.0.0.1"}


def test_a_certificate_reaches_the_gateway_alone(tmp_path: Path, layout: Layout) -> None:
    override = tmp_path / "mine.yaml"
    override.write_text(yaml.safe_dump({"gateway": {"certificate_file": "/tls/a.pem", "key_file": "/tls/a.key"}}))
    values = service_settings(load_local_settings(override), layout)
    assert values["gateway"]["server"]["tls"] == {"certificate_file": "/tls/a.pem", "key_file": "/tls/a.key"}
    assert not [name for name in ("embedder", "retriever", "llm") if "tls" in values[name]["server"]]


def test_overrides_reach_the_service_they_name(tmp_path: Path, layout: Layout) -> None:
    override = tmp_path / "mine.yaml"
    override.write_text("overrides: {retriever: {ingestion: {workers: 1}}}\n")
    ingestion = service_settings(load_local_settings(override), layout)["retriever"]["ingestion"]
    assert ingestion["workers"] == 1
    assert "tokenizer_path" in ingestion


def test_a_model_folder_of_the_users_own_is_served(tmp_path: Path, layout: Layout) -> None:
    override = tmp_path / "mine.yaml"
    override.write_text("chat_model: {name: Mine, path: /models/mine, max_model_len: 4096}\n")
    values = service_settings(load_local_settings(override), layout)
    model = values["llm"]["model"]
    assert (model["name"], model["path"]) == ("Mine", "/models/mine")
    assert values["gateway"]["models"]["Mine"]["context_tokens"] == 4096


def test_the_gateway_samples_as_the_models_authors_advise(tmp_path: Path, layout: Layout) -> None:
    model = tmp_path / "model"
    model.mkdir()
    override = tmp_path / "mine.yaml"
    override.write_text(f"chat_model: {{name: mine, path: {model}}}\n")

    def served() -> dict[str, object]:
        entry: dict[str, object] = service_settings(load_local_settings(override), layout)["gateway"]["models"]["mine"]
        return {name: entry.get(name) for name in ("temperature", "top_p")}

    assert served() == {"temperature": None, "top_p": None}
    (model / "generation_config.json").write_text('{"temperature": 0.6, "top_p": null, "top_k": 20}')
    assert served() == {"temperature": 0.6, "top_p": None}
