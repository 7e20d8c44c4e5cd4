"""Secrets are made once, are long, and nobody else may read them."""

from pathlib import Path

import pytest

from deploy.local.faults import NotReadyToStart
from deploy.local.keys import SECRETS, ensure_secrets


def test_every_secret_is_random_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    ensure_secrets(folder)
    values = [(folder / name).read_text().strip() for name in SECRETS]
    assert len(set(values)) == len(SECRETS)
    assert all(len(bytes.fromhex(value)) == 32 for value in values)
    assert {(folder / name).stat().st_mode & 0o777 for name in SECRETS} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_second_start_keeps_them(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    before = {name: (tmp_path / name).read_text() for name in SECRETS}
    ensure_secrets(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in SECRETS} == before


def test_a_secret_others_may_read_stops_the_start(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    (tmp_path / "pepper").chmod(0o644)
    with pytest.raises(NotReadyToStart, match=r"chmod 600 .*pepper"):
        ensure_secrets(tmp_path)


def test_an_emptied_root_key_is_not_replaced(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    (tmp_path / "root-key").write_text("")
    with pytest.raises(NotReadyToStart, match="Restore it from your backup"):
        ensure_secrets(tmp_path)
    assert (tmp_path / "root-key").read_text() == ""
