"""In which type a model computes on a CPU: measured on the machine it runs on.

A processor's flags do not tell. With AVX512-BF16 and without AMX, SmolLM2 wrote 35, 218 and 264 tokens a second for 1,
16 and 32 streams in bfloat16 and 26, 221 and 296 in float32; where bfloat16 is emulated it is slower throughout. So the
model's own matrices are multiplied in both, with vLLM's own kernels, and what was found is kept with the model's other
caches, by model and processor. It is asked only where the model fits in float32 too, which takes twice the memory.
"""

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cloister_common.logs import get_logger

from cloister_llm.hardware import processor
from cloister_llm.plan.weights import matrices

__all__ = ["faster_in_float32", "measure", "worthwhile"]

log = get_logger(__name__)

MODULE = "cloister_llm.multiplications"
_GAIN = 0.9
"""What part of the time in 16 bits float32 may take at most: it takes twice the memory of weights and of each token."""
_MOST_BYTES = 512 << 20
"""Of matrices that are multiplied: far more than processors keep in their caches, and done within seconds."""
_SECONDS = 120.0
"""For all of it. On two quiet cores it takes under ten, most of them to load vLLM."""


def faster_in_float32(model: Path, narrow: str, environment: Mapping[str, str], cache: Path) -> bool:
    """Whether ``model`` computes so much faster in 32 bits than in ``narrow`` that it is worth the memory.

    Where it cannot be measured, it does not; the next start tries again, and the log says why.

    Args:
        model: Its folder.
        narrow: Its 16-bit type, ``bfloat16`` or ``float16``.
        environment: What vLLM will run with: its threads and its libraries.
        cache: The folder that keeps what was measured.

    Raises:
        PlanError: A weight file is broken.
    """
    shapes = matrices(model, _MOST_BYTES)
    if not shapes:
        return False
    dtypes = [narrow, "float32"]
    kept = cache / f"precision-{_key(shapes, narrow, environment)}.json"
    seconds = _read(kept, dtypes)
    if seconds is None:
        try:
            seconds = measure(shapes, dtypes, environment)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            log.warning("precision_not_measured", error=type(error).__name__)
            return False
        _keep(kept, seconds)
    wide = worthwhile(seconds[narrow], seconds["float32"])
    log.info("precision_chosen", dtype="float32" if wide else narrow, seconds=seconds)
    return wide


def worthwhile(narrow: Sequence[float], wide: Sequence[float]) -> bool:
    """Whether 32 bits are faster by enough, by the seconds of the same work for few and for many streams.

    By their geometric mean, so that none of them counts more for taking longer.
    """
    return math.prod(wide) <= math.prod(narrow) * _GAIN ** len(narrow)


def measure(
    shapes: Sequence[tuple[int, int]], dtypes: Sequence[str], environment: Mapping[str, str]
) -> dict[str, list[float]]:
    """Seconds of one pass through all matrices for 1, 16 and 32 streams, by type.

    In a process of its own, since this one becomes vLLM and should be small until then.

    Raises:
        OSError: It could not be started.
        subprocess.SubprocessError: It failed, or took too long.
        ValueError: It wrote something else.
    """
    done = subprocess.run(  # noqa: S603 - this interpreter, a module of ours
        [sys.executable, "-m", MODULE],
        input=json.dumps({"shapes": shapes, "dtypes": dtypes}),
        # vLLM's own words belong to no log: the pod's begins when vLLM does.
        env={**environment, "VLLM_CONFIGURE_LOGGING": "0", "VLLM_LOGGING_CONFIG_PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=_SECONDS,
        check=True,
    )
    return _seconds(done.stdout.splitlines()[-1] if done.stdout else "", dtypes)


def _seconds(text: str, dtypes: Sequence[str]) -> dict[str, list[float]]:
    """What was measured, out of JSON.

    Raises:
        ValueError: It is something else.
    """
    try:
        found = {dtype: [float(one) for one in json.loads(text)[dtype]] for dtype in dtypes}
    except (LookupError, TypeError) as error:
        raise ValueError("not what was measured") from error
    if len(set(map(len, found.values()))) != 1 or min(map(min, found.values())) <= 0:
        raise ValueError("not what was measured")
    return found


def _key(shapes: Sequence[tuple[int, int]], narrow: str, environment: Mapping[str, str]) -> str:
    """A name for a model on a machine: whatever changes what would be measured changes it."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    run = [environment.get(name, "") for name in ("OMP_NUM_THREADS", "LD_PRELOAD")]
    parts = [processor(), torch, narrow, *run, json.dumps(shapes)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _read(kept: Path, dtypes: Sequence[str]) -> dict[str, list[float]] | None:
    try:
        return _seconds(kept.read_text(encoding="utf-8"), dtypes)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("measurement_unreadable", error=type(error).__name__)
        return None


def _keep(kept: Path, seconds: dict[str, list[float]]) -> None:
    try:
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(seconds))
        partial.replace(kept)
    except OSError as error:
        log.warning("measurement_not_kept", error=type(error).__name__)
