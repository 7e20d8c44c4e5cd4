"""Looks at a model folder before vLLM does, and says in one sentence what is wrong with it.

Only safetensors are served: other weight formats are pickles, which run code when they are loaded. Code in the folder
is never run either (``trust_remote_code`` stays off), so a model that needs it is refused by vLLM.
"""

import json
from pathlib import Path
from typing import Any

from cloister_common.settings import SettingsError

from cloister_llm.plan.weights import weight_files

__all__ = ["check_model_folder", "read_config"]

_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


def read_config(model: Path) -> dict[str, Any]:
    """The model's ``config.json``.

    Raises:
        SettingsError: No folder, no file, no JSON object.
    """
    if not model.is_dir():
        raise SettingsError(f"There is no model in {model}. Copy it there, or set model.path.")
    file = model / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"The model folder {model} has no config.json. Copy the whole model there.") from error
    except OSError as error:
        raise SettingsError(f"Cannot read {file}: {error.strerror}. Let this process read the model.") from error
    except ValueError as error:
        raise SettingsError(f"{file} is not JSON. Copy the model again.") from error
    if not isinstance(config, dict):
        raise SettingsError(f"{file} is not a JSON object. Copy the model again.")
    return config


def check_model_folder(model: Path) -> dict[str, Any]:
    """Checks what vLLM will load, and returns the model's ``config.json``.

    Raises:
        SettingsError: Something is missing, or there are weights in a format that can carry code.
        PlanError: A weight file is missing or broken.
    """
    config = read_config(model)
    if not (model / "tokenizer.json").exists():
        raise SettingsError(
            f"The model folder {model} has no tokenizer.json. Only models with a fast tokenizer are served, "
            "since only with one can content be kept apart from control tokens."
        )
    pickles = sorted(file.name for file in model.iterdir() if file.suffix in _PICKLES)
    if pickles:
        raise SettingsError(
            f"The model folder {model} has files that can run code when loaded: {', '.join(pickles)}. "
            "Remove them; weights are taken from safetensors files only."
        )
    if not weight_files(model):
        raise SettingsError(f"The model folder {model} has no safetensors weights. Copy the whole model there.")
    return config
