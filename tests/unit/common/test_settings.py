"""Settings: one YAML file, unknown keys and placeholders refused, each error a sentence with the mend."""

from pathlib import Path

import pytest
from cloister_common.settings import (
    ServiceSettings,
    Settings,
    SettingsError,
    load_settings,
    read_secret,
    read_secret_lines,
)
from pydantic import ValidationError


class Section(Settings):
    depth: int = 3


class Example(ServiceSettings):
    section: Section = Section()


GOOD = "server: {port: 8080, metrics_port: 9080}\n"


def load(tmp_path: Path, text: str) -> Example:
    path = tmp_path / "example.yaml"
    path.write_text(text)
    return load_settings(Example, path)


def test_good_file_loads_with_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD + "section: {depth: 5}\n")
    assert (settings.server.port, settings.section.depth, settings.log.level) == (8080, 5, "info")
    assert settings.server.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "speed: 3", "speed"),
        (GOOD + "section: {deep: 3}", "section.deep"),
        (GOOD + "section: {depth: much}", "section.depth"),
        (GOOD + "log: {level: loud}", "log.level"),
        ("server: {port: 8080}", "server.metrics_port"),
        ("server: {port: 99999, metrics_port: 9080}", "server.port"),
        ("", "server"),
        ("- a list", "is wrong"),
        ("server: {", "is not YAML"),
    ],
)
def test_wrong_file_names_the_key(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(tmp_path, text)


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Cannot read the settings file"):
        load_settings(Example, tmp_path / "nowhere.yaml")


def test_settings_do_not_change_after_the_start(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    with pytest.raises(ValidationError):
        setattr(settings.section, "depth", 9)  # noqa: B010 - the type checker knows it is frozen


@pytest.mark.parametrize(
    "content",
    ["", "\n", "changeme", "CHANGE_ME", "placeholder", "secret", "xxxxxxxxxxxxxxxxxxxxxx", "<put it here now>"],
)
def test_placeholder_secret_is_refused_with_the_mend(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    with pytest.raises(SettingsError, match="openssl rand -hex 32"):
        read_secret(path, what="the pepper")


def test_secret_is_never_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("short-but-real")
    with pytest.raises(SettingsError) as refused:
        read_secret(path, what="the pepper")
    assert "short-but-real" not in str(refused.value)


def test_secret_loses_its_newline_only(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b" 0123456789abcdef \r\n")
    assert read_secret(path, what="it") == b" 0123456789abcdef "


def test_several_values_of_a_secret_are_all_read_and_all_checked(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("a" * 32 + "\n\n" + "b" * 40 + "\n")
    assert read_secret_lines(path, what="tokens") == [b"a" * 32, b"b" * 40]
    path.write_text("a" * 32 + "\nchangeme\n")
    with pytest.raises(SettingsError, match="a line shorter than 32 bytes"):
        read_secret_lines(path, what="tokens")
