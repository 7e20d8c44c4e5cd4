"""vLLM on a CPU in two processes instead of three, of which the second begins as a copy of the first.

As it is, vLLM starts three one after another: its server, the engine and a worker, and each imports ten seconds of
Python before it begins the next. The worker is there to have OpenMP's threads bound by variables that OpenMP reads when
it begins. Intel's begins again in a copied process, and reads them again. So here the engine computes in its own
process (``UniProcExecutor``), as on a GPU, which also spares each token a way through shared memory; it is forked from
the server, again as on a GPU; and it sets the variables before it computes.

GNU's OpenMP does not live on in a copied process. Where Intel's is not loaded, vLLM starts as it would.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
import stat
from collections.abc import Callable, Mapping
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

__all__ = ["ENVIRONMENT", "OPTIONS", "can_share", "share", "threads"]

ENVIRONMENT: Mapping[str, str] = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""Without it vLLM does not let the engine compute on a CPU. The server and the engine are apart all the same."""
OPTIONS: Mapping[str, str] = {"distributed-executor-backend": "uni"}

_LIBRARY = "libiomp5"


def can_share(environment: Mapping[str, str]) -> bool:
    """Whether vLLM's processes can be copies, by what is loaded before all others."""
    return _LIBRARY in environment.get("LD_PRELOAD", "")


def threads(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables of Intel's OpenMP, which are those that vLLM would give a worker.

    Threads wait for each other's work for 5 ms, and then sleep: of a quota, waiting would use up what there is.
    """
    waiting = {"KMP_BLOCKTIME": "5", "KMP_TPAUSE": "0"}
    cores = environment.get("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    if cores == "nobind":
        return waiting
    bound = f"granularity=fine,explicit,proclist=[{cores}]"
    return {**waiting, "KMP_AFFINITY": bound, "OMP_NUM_THREADS": str(len(cores.split(",")))}


def share() -> None:
    """Has vLLM fork its engine from this process, where the launcher has chosen that. May be called more than once."""
    chosen = all(os.environ.get(name) == value for name, value in ENVIRONMENT.items())
    if not chosen or not can_share(os.environ):
        return
    from vllm.model_executor.models import registry
    from vllm.v1.engine import utils
    from vllm.v1.engine.core import EngineCoreProc

    if utils.get_mp_context is _forking:
        return
    run = EngineCoreProc.run_engine_core

    def run_apart(*arguments: Any, **options: Any) -> None:
        _part()
        os.environ.update(threads(os.environ))
        run(*arguments, **options)

    EngineCoreProc.run_engine_core = staticmethod(run_apart)
    utils.get_mp_context = _forking
    # What kind of model it is vLLM finds out in one more process, lest this one begins with CUDA.
    registry._run_in_subprocess = _here


def _here(work: Callable[[], Any]) -> Any:
    return work()


def _forking() -> BaseContext:
    return multiprocessing.get_context("fork")


def _part() -> None:
    """Lets go of what the copy has of the server: a signal to the one must not wake the other, and the port must be
    free when the server is gone."""
    signal.set_wakeup_fd(-1)
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # the folder itself, which is closed by now
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as held:
                    if held.family in {socket.AF_INET, socket.AF_INET6}:
                        os.close(number)
