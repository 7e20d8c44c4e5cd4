"""The one settings file of the local stack: defaults, keys laid over them, and faults that name the key."""

from pathlib import Path

import pytest

from deploy.local.faults import NotReadyToStart
from deploy.local.settings import laid_over, load_local_settings


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "local.yaml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_documented_address() -> None:
    assert load_local_settings(None).base_url == "http://127.0.0.1:8080/v1"


def test_given_keys_replace_the_defaults_and_the_others_stay(tmp_path: Path) -> None:
    settings = load_local_settings(written(tmp_path, "ports: {gateway: 18100}\n"))
    assert settings.ports.gateway == 18100
    assert settings.ports.redis == 6390


def test_a_certificate_makes_the_address_https(tmp_path: Path) -> None:
    text = "gateway: {public_host: chat.example, certificate_file: a.pem, key_file: b.pem}\n"
    assert load_local_settings(written(tmp_path, text)).base_url == "https://chat.example:8080/v1"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ports: {gatewy: 1}\n", "ports.gatewy"),
        ("ports: {gateway: 70000}\n", "ports.gateway"),
        ("ports: {gateway: 8081}\n", "port 8081 is given to two parts"),
        ("gateway: {key_file: b.pem}\n", "certificate_file and key_file belong together"),
        ("ports: [\n", "is not YAML"),
        ("- a list\n", "is wrong"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key_at_fault(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(NotReadyToStart, match=named):
        load_local_settings(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReadyToStart, match=r"nowhere\.yaml: No such file"):
        load_local_settings(tmp_path / "nowhere.yaml")


def test_laying_over_replaces_lists_and_merges_maps() -> None:
    assert laid_over({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}, "d": 2}
