"""Model folders that must not be loaded are refused with a sentence that names the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloister_common.settings import SettingsError
from cloister_embedder.models import check_folder
from cloister_embedder.settings import ModelSettings
from safetensors.numpy import save_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A text model's folder, as far as the check looks."""
    (tmp_path / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}])
    )
    (tmp_path / "config.json").write_text("{}")
    save_file({"weight": np.zeros((4, 4), np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def check(folder: Path, **more: Any) -> None:
    check_folder("m", ModelSettings.model_validate({"kind": "text", "path": folder, **more}))


def test_complete_folder_passes(folder: Path) -> None:
    check(folder)
    check(folder, kind="rerank")


def _missing(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _pickle(folder: Path) -> None:
    (folder / "1_Dense").mkdir()
    (folder / "1_Dense" / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def _foreign_class(folder: Path) -> None:
    (folder / "modules.json").write_text(json.dumps([{"type": "os.system"}]))


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


def _no_modules(folder: Path) -> None:
    (folder / "modules.json").unlink()


def _not_json(folder: Path) -> None:
    (folder / "modules.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_missing, "does not exist"),
        (_pickle, "pytorch_model.bin is a pickle"),
        (_foreign_class, "os.system"),
        (_no_weights, "no .safetensors file"),
        (_truncated, "model.safetensors is damaged"),
        (_no_modules, "cannot read .*modules.json"),
        (_not_json, "cannot read .*modules.json"),
    ],
)
def test_unusable_folder_is_refused_by_name(folder: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    spoil(folder)
    with pytest.raises(SettingsError, match=sentence):
        check(folder)


def test_weights_with_another_digest_are_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="has the SHA-256"):
        check(folder, sha256={"model.safetensors": "00" * 32})
