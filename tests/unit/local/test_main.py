"""The command's own faults: one sentence, and the exit code that says nothing was started."""

import signal
import sys
from pathlib import Path

import pytest

from deploy.local.__main__ import main


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["deploy.local", "--var", str(file / "var")])
    assert main() == 2
    assert capsys.readouterr().err.startswith(f"Cannot use {file / 'var'}: Not a directory. ")
