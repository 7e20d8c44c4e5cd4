"""When vLLM's processes are copies, and what OpenMP is told in them."""

from pathlib import Path
from typing import Any

import pytest
from cloister_llm import launcher
from cloister_llm.launcher import prepare
from cloister_llm.processes import threads

CONFIG = Path("llm.yaml")
OPTION = "--distributed-executor-backend=uni"


@pytest.mark.parametrize(("library", "copied"), [("libiomp5.so", True), ("libtcmalloc_minimal.so.4", False)])
def test_they_are_where_intels_openmp_is_loaded(
    make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch, library: str, copied: bool
) -> None:
    monkeypatch.setattr(launcher, "fast_libraries", lambda: [Path("/a", library)])
    ready = prepare(make_settings(), CONFIG)
    assert (OPTION in ready.command, ready.environment.get("VLLM_ENABLE_V1_MULTIPROCESSING")) == (
        (True, "0") if copied else (False, None)
    )


def test_on_gpus_vllm_decides(make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "gpu_memory_bytes", lambda: [80 << 30])
    monkeypatch.setenv("LD_PRELOAD", "/their/libiomp5.so")
    ready = prepare(make_settings(engine={"device": "gpu"}), CONFIG)
    assert OPTION not in ready.command
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in ready.environment


def test_an_executor_that_the_operator_names_stays(
    make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "fast_libraries", lambda: [Path("/a/libiomp5.so")])
    named = {"distributed-executor-backend": "mp"}
    ready = prepare(make_settings(engine={"extra_arguments": named}), CONFIG)
    assert "--distributed-executor-backend=mp" in ready.command
    assert OPTION not in ready.command


def test_threads_are_bound_to_the_launchers_cores_and_never_wait_for_long() -> None:
    bound = threads({"VLLM_CPU_OMP_THREADS_BIND": "2,3,5", "OMP_NUM_THREADS": "6"})
    assert bound["KMP_AFFINITY"] == "granularity=fine,explicit,proclist=[2,3,5]"
    assert bound["OMP_NUM_THREADS"] == "3"
    free = threads({"VLLM_CPU_OMP_THREADS_BIND": "nobind"})
    assert "KMP_AFFINITY" not in free
    assert bound["KMP_BLOCKTIME"] == free["KMP_BLOCKTIME"] == "5"
