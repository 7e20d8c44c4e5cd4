"""The clients that people use, unmodified and with their defaults, at the whole stack: no mock, no adapter.

Each has a program of its own beside this file, written as its own manual would have it, which goes through its main
flows in an environment with the client (`requirements/clients*.in`, ``javascript/package.json``) and none of ours. It
can be run by hand: with ``OPENAI_BASE_URL`` and the rest of `_access` set, and the names of flows if not all.

The model that comes with Cloister writes little that makes sense, so that what is looked at is never its words. It
calls the tools that it must, since what it writes is bound to their schemas.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local.settings import REPOSITORY
from tests.e2e.conftest import CHAT_MODEL, EMBEDDING_MODEL
from tests.support.stack import Stack

HERE = Path(__file__).parent
OPENAI2 = {"with_litellm.py", "with_dspy.py", "with_llama_index.py"}
"""Those that need the second generation of OpenAI's SDK."""
PYTHON = sorted(path.name for path in HERE.glob("python/with_*.py"))
JAVASCRIPT = sorted(path.name for path in HERE.glob("javascript/with_*.mjs"))
SECONDS = 240.0
"""Some twenty flows of a second or two each, beside another part of the tests; a client that hangs fails here."""


def environment_of(python: str) -> Path:
    return REPOSITORY / (".venv-clients-openai2" if python in OPENAI2 else ".venv-clients")


@pytest.mark.parametrize("program", PYTHON)
def test_a_python_client_does_its_flows(stack: Stack, program: str, tmp_path: Path) -> None:
    python = environment_of(program) / "bin" / "python"
    vocabulary = next(environment_of("with_litellm.py").glob("lib/python3*/site-packages/litellm/litellm_core_utils"))
    # OpenAI's vocabulary, which a client would fetch from there.
    settings = {"TIKTOKEN_CACHE_DIR": str(vocabulary / "tokenizers")}
    _run_flows(stack, [str(python), str(HERE / "python" / program)], tmp_path, settings)


@pytest.mark.parametrize("program", JAVASCRIPT)
def test_a_javascript_client_does_its_flows(stack: Stack, program: str, tmp_path: Path) -> None:
    # (Node looks for packages beside the program and above it.)
    for source in (HERE / "javascript").glob("*.mjs"):
        shutil.copy(source, tmp_path)
    (tmp_path / "node_modules").symlink_to(REPOSITORY / ".venv-clients-javascript" / "node_modules")
    _run_flows(stack, ["node", str(tmp_path / program)], tmp_path, {})


def _run_flows(stack: Stack, command: list[str], folder: Path, settings: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **_access(stack), **settings},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    flows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = [f"{flow['flow']}:\n{flow['error']}" for flow in flows if flow["error"]]
    assert not failed, "\n\n".join(failed)
    assert flows, done.stderr
    assert done.returncode == 0, done.stderr


def _access(stack: Stack) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": stack.base_url,
        "OPENAI_API_KEY": stack.api_key,
        "CHAT_MODEL": CHAT_MODEL,
        "EMBEDDING_MODEL": EMBEDDING_MODEL,
        # Nothing is told to anybody.
        "LANGSMITH_TRACING": "false",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
