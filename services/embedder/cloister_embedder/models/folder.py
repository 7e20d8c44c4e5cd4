"""Checks a model folder before anything of it is executed or read into memory.

A model folder is data from elsewhere. Pickled weights run code when they are read, and ``modules.json`` names classes
that get imported: both are refused here. A truncated weight file is found by its header, so that the process stops at
once with a sentence, and not minutes later with a traceback.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cloister_common.settings import SettingsError
from safetensors import SafetensorError, safe_open

from cloister_embedder.settings import ModelSettings

__all__ = ["check_folder"]

_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def check_folder(name: str, settings: ModelSettings) -> None:
    """Raises unless the folder of model ``name`` is complete, is safe to load and has the digests it should have.

    Raises:
        SettingsError: One sentence with what is wrong and the mend.
    """
    folder = settings.path
    if not folder.is_dir():
        raise SettingsError(f"Model '{name}': the folder {folder} does not exist. Unpack the model there.")
    if settings.kind == "rerank":
        _json(name, folder / "config.json")
    else:
        _check_modules(name, folder)
    weights = sorted(folder.rglob("*.safetensors"))
    if not weights:
        raise SettingsError(f"Model '{name}': no .safetensors file in {folder}. Convert the weights to safetensors.")
    safe_folders = {path.parent for path in weights}
    for path in folder.rglob("*"):
        if path.suffix in _PICKLES and path.parent not in safe_folders:
            raise SettingsError(
                f"Model '{name}': {path} is a pickle and could run code. Convert it to safetensors, or delete it."
            )
    for path in weights:
        _check_header(name, path)
    for relative, digest in settings.sha256.items():
        _check_digest(name, folder / relative, digest)


def _check_modules(name: str, folder: Path) -> None:
    modules = _json(name, folder / "modules.json")
    if not isinstance(modules, list):
        raise SettingsError(f"Model '{name}': {folder / 'modules.json'} is not a list of modules.")
    for module in modules:
        reference = str(module.get("type", "")) if isinstance(module, dict) else ""
        if not reference.startswith("sentence_transformers."):
            raise SettingsError(
                f"Model '{name}': modules.json names the class '{reference}', which is not of sentence-transformers. "
                "Code from model folders is never run."
            )


def _json(name: str, path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"Model '{name}': cannot read {path} ({type(error).__name__}). It must be a sentence-transformers folder."
        ) from error


def _check_header(name: str, path: Path) -> None:
    try:
        with safe_open(path, framework="numpy") as weights:
            weights.keys()
    except (OSError, SafetensorError) as error:
        raise SettingsError(f"Model '{name}': {path} is damaged ({error}). Unpack the model again.") from error


def _check_digest(name: str, path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SettingsError(f"Model '{name}': cannot read {path}: {error.strerror}.") from error
    if digest != expected.lower():
        raise SettingsError(f"Model '{name}': {path} has the SHA-256 {digest}, not {expected}. Unpack the model again.")
