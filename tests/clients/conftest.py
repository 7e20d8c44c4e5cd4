"""One stack for all clients, whose programs run side by side, so that vLLM answers them in batches."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deploy.local.settings import REPOSITORY
from tests.e2e.conftest import CHAT_MODEL, EMBEDDING_MODEL
from tests.support.stack import Stack, running_stack

HERE = Path(__file__).parent
OPENAI2 = {"with_litellm.py", "with_dspy.py", "with_llama_index.py"}
"""Those that need the second generation of OpenAI's SDK."""

GATEWAY = {"models": {CHAT_MODEL: {"temperature": 0}}, "responses": {"keep_alive_seconds": 0.02}}

_SIDE_BY_SIDE = 6
"""While some load their packages, which takes a core for seconds, others wait for the model."""
_SECONDS = 600.0
"""A minute or two on a quiet machine. A client that hangs fails here."""

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose model answers the same whenever it is asked the same, to clients that say nothing about it. Its
    streams have comments between their events: all clients must pass over what keeps a silent one open."""
    with pytest.MonkeyPatch.context() as environment:
        # The other core is the clients': two threads of a model wait for each other wherever one of them has to wait.
        environment.setenv("OMP_NUM_THREADS", "1")
        with running_stack(tmp_path_factory.mktemp("stack"), {"overrides": {"gateway": GATEWAY}}) as running:
            yield running


@pytest.fixture(scope="session")
def programs(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, "Future[Done]"]]:
    """The programs of all tests that were chosen, by name, begun side by side in the order of their tests."""
    tests: list[Any] = request.session.items
    parameters = [test.callspec.params for test in tests if hasattr(test, "callspec")]
    names: list[str] = [given["program"] for given in parameters if "program" in given]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as threads:
        begun = {name: threads.submit(_run, name, stack, tmp_path_factory.mktemp(Path(name).stem)) for name in names}
        yield begun
        for program in begun.values():
            program.cancel()


def _run(name: str, stack: Stack, folder: Path) -> Done:
    """Runs one program in an empty folder.

    Raises:
        subprocess.TimeoutExpired: A flow hangs.
    """
    javascript = name.endswith(".mjs")
    settings = {**os.environ, **_access(stack), **({} if javascript else _vocabulary())}
    return subprocess.run(
        _javascript(name, folder) if javascript else _python(name),
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def _python(name: str) -> list[str]:
    environment = ".venv-clients-openai2" if name in OPENAI2 else ".venv-clients"
    return [str(REPOSITORY / environment / "bin" / "python"), str(HERE / "python" / name)]


def _javascript(name: str, folder: Path) -> list[str]:
    # Node looks for packages beside the program and above it.
    for source in (HERE / "javascript").glob("*.mjs"):
        shutil.copy(source, folder)
    (folder / "node_modules").symlink_to(REPOSITORY / ".venv-clients-javascript" / "node_modules")
    return ["node", str(folder / name)]


def _access(stack: Stack) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": stack.base_url,
        "OPENAI_API_KEY": stack.api_key,
        "CHAT_MODEL": CHAT_MODEL,
        "EMBEDDING_MODEL": EMBEDDING_MODEL,
        # Its own is half a minute, which a busy machine may need for a call.
        "OPENAI_TIMEOUT": "300",
        # Nothing is told to anybody.
        "LANGSMITH_TRACING": "false",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def _vocabulary() -> dict[str, str]:
    """OpenAI's vocabulary, which a client would fetch from there."""
    (carried,) = (REPOSITORY / ".venv-clients-openai2").glob(
        "lib/python3*/site-packages/litellm/litellm_core_utils/tokenizers"
    )
    return {"TIKTOKEN_CACHE_DIR": str(carried)}
