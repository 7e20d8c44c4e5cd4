"""What the person gets at the end: a private file, and lines that can be pasted."""

from pathlib import Path

import pytest

from deploy.local import client
from deploy.local.config import Layout
from deploy.local.settings import LocalSettings, load_local_settings


@pytest.fixture
def made_keys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    async def bootstrap(_: Layout) -> dict[str, str]:
        calls.append("bootstrap")
        return {"OPENAI_API_KEY": "clo_key", "CLOISTER_ADMIN_KEY": "clo_admin"}

    monkeypatch.setattr(client, "_bootstrap", bootstrap)
    return calls


async def test_the_first_start_makes_the_file_and_shows_the_key(
    settings: LocalSettings, layout: Layout, made_keys: list[str]
) -> None:
    assert await client.ensure_client_file(settings, layout, fresh_store=True) == "clo_key"
    path = layout.var / "client.env"
    assert path.stat().st_mode & 0o777 == 0o600
    assert client.read_client_file(path) == {
        "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1",
        "OPENAI_API_KEY": "clo_key",
        "CLOISTER_ADMIN_KEY": "clo_admin",
    }
    assert made_keys == ["bootstrap"]


async def test_a_second_start_shows_nothing_and_follows_a_changed_port(
    settings: LocalSettings, layout: Layout, made_keys: list[str], tmp_path: Path
) -> None:
    await client.ensure_client_file(settings, layout, fresh_store=True)
    override = tmp_path / "mine.yaml"
    override.write_text("ports: {gateway: 18100}\n")
    assert await client.ensure_client_file(load_local_settings(override), layout, fresh_store=False) is None
    known = client.read_client_file(layout.var / "client.env")
    assert known["OPENAI_BASE_URL"] == "http://127.0.0.1:18100/v1"
    assert known["OPENAI_API_KEY"] == "clo_key"
    assert made_keys == ["bootstrap"]


async def test_an_emptied_store_gets_new_keys(settings: LocalSettings, layout: Layout, made_keys: list[str]) -> None:
    (layout.var / "client.env").write_text("OPENAI_API_KEY=of_the_store_before\n")
    assert await client.ensure_client_file(settings, layout, fresh_store=True) == "clo_key"
    assert "of_the_store_before" not in (layout.var / "client.env").read_text()


def test_a_lost_file_is_answered_with_how_to_make_a_key(settings: LocalSettings, layout: Layout) -> None:
    lines = client.paste_lines(settings, layout, None)
    assert "keys create --config" in lines
    assert str(layout.config / "gateway.yaml") in lines


def test_the_key_is_printed_only_when_it_is_new(settings: LocalSettings, layout: Layout) -> None:
    assert "clo_key" in client.paste_lines(settings, layout, "clo_key")
    (layout.var / "client.env").write_text("OPENAI_API_KEY=clo_key\n")
    later = client.paste_lines(settings, layout, None)
    assert "clo_" not in later
    assert "http://127.0.0.1:8080/v1" in later
    assert all(f"{language}:" in later for language in ("curl", "Python", "JavaScript"))


def test_a_folder_with_a_space_can_be_pasted(settings: LocalSettings, tmp_path: Path) -> None:
    assert f". '{tmp_path}/my data/client.env';" in client.paste_lines(
        settings, Layout(tmp_path / "my data"), "clo_key"
    )
