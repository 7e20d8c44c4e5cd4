"""The command's own faults: one sentence, and the exit code that says nothing was started."""

import os
import signal
import sys
from pathlib import Path

import pytest

from deploy.local.__main__ import main


@pytest.fixture(autouse=True)
def no_signal_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(sys, "argv", ["deploy.local", "--var", str(file / "var")])
    assert main() == 2
    assert capsys.readouterr().err.startswith(f"Cannot use {file / 'var'}: Not a directory. ")


def test_the_folder_of_all_data_is_the_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("paths: {redis_server: no-such-redis}\n")
    monkeypatch.setattr(sys, "argv", ["deploy.local", "--var", str(tmp_path / "var"), "--config", str(config)])
    before = os.umask(0)
    try:
        assert main() == 2
    finally:
        os.umask(before)
    assert "no-such-redis is not installed" in capsys.readouterr().err
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
