"""In which type a model computes, and how much in one pass: measured on the machine it runs on.

A processor's flags do not tell. bfloat16 was 3.4 times faster than float32 on one processor with AVX512-BF16, and 1.6
times slower on another, which has no AMX. So a feed-forward block as wide as the model's runs in each type, for some
tenths of a second at start, and the fastest is taken; the result is kept where the settings name a folder for it.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from cloister_common.logs import get_logger

__all__ = [
    "Measured",
    "Measurements",
    "Precision",
    "batch_tokens_within",
    "choose_precision",
    "fastest",
    "machine_key",
    "possible_precisions",
    "worthwhile",
]

log = get_logger(__name__)

Precision = Literal["float32", "bfloat16", "int8"]

_GAIN: Mapping[Precision, float] = {"float32": 1.0, "bfloat16": 0.9, "int8": 0.8}
"""What part of the best time before it a type may take at most, or it is not worth the digits it costs. On 205 chat
questions over 1,152 passages MiniLM's nDCG@10 is .764 in float32 and .762 in int8."""

_ROWS = (48, 1024)
"""Tokens of one block: a few queries, and a batch of an upload."""
_ROUNDS = 7
_PASS_SECONDS = 0.15
"""What a pass may take: a query waits for at most one that has begun before it came."""
_BATCH_TOKENS = (1024, 2048, 4096, 8192)
"""On a CPU. Below the first padding and calls cost more than the products; past the last nothing more is gained."""


class Measured(NamedTuple):
    """What was found for a model on a machine.

    Attributes:
        precision: The fastest type that is exact enough.
        batch_tokens: Padded tokens of one pass that takes about as long as a query may wait.
    """

    precision: Precision
    batch_tokens: int


class Measurements:
    """Measurements of earlier starts in a folder: a file for each model and machine.

    Args:
        folder: Where; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def find(self, key: str) -> Measured | None:
        """What was measured under ``key``; None also where it cannot be read, and is then measured again."""
        if self._folder is None:
            return None
        try:
            found = json.loads((self._folder / f"{key}.json").read_bytes())
            return Measured(found["precision"], int(found["batch_tokens"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("measurement_unreadable", key=key, error=type(error).__name__)
            return None

    def keep(self, key: str, measured: Measured) -> None:
        """Keeps it for later starts. Where that is not possible the next start measures again, and the log says why."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = self._folder / f"{key}.{os.getpid()}"
            partial.write_text(json.dumps(measured._asdict()))
            partial.replace(self._folder / f"{key}.json")
        except OSError as error:
            log.warning("measurement_not_kept", key=key, error=type(error).__name__)


def machine_key(config: bytes, *, device: str, threads: int) -> str:
    """A name for a model on a machine: whatever changes what would be measured changes it.

    Args:
        config: The model's ``config.json``.
        device: Where it runs.
        threads: In how many threads.
    """
    import torch

    machine = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else json.dumps(dict(torch.cpu.get_capabilities()), sort_keys=True)
    )
    parts = (torch.__version__, device, machine, str(threads))
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + config).hexdigest()[:32]


def possible_precisions(device: str) -> Sequence[Precision]:
    """The types that give right results there, float32 first."""
    import torch

    if device == "cuda":
        return ("float32", "bfloat16") if torch.cuda.is_bf16_supported(including_emulation=False) else ("float32",)
    capabilities = torch.cpu.get_capabilities()
    # Without these instructions sums of products of bytes are cut off at 16 bits.
    exact = any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm"))
    return ("float32", "bfloat16", "int8") if exact else ("float32", "bfloat16")


def choose_precision(width: int, device: str) -> Precision:
    """The fastest type for blocks of ``width`` features on ``device``. Takes some tenths of a second."""
    return fastest({precision: _block(width, device, precision) for precision in possible_precisions(device)})


def fastest(works: Mapping[Precision, Callable[[], object]]) -> Precision:
    """The type whose work takes least time, float32 where the gain would not be worth the digits.

    In turns, and the best time of each counts: so a machine that is busy at start slows all of them alike.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(_ROUNDS):
        for precision, work in works.items():
            started = time.perf_counter()
            work()
            best[precision] = min(best[precision], time.perf_counter() - started)
    log.info("precisions_measured", milliseconds={name: round(1000 * seconds, 3) for name, seconds in best.items()})
    return worthwhile(best)


def batch_tokens_within(tokens: int, seconds: float) -> int:
    """How many padded tokens one pass on a CPU may have, where ``tokens`` took ``seconds``."""
    most = tokens * _PASS_SECONDS / seconds
    return max((size for size in _BATCH_TOKENS if size <= most), default=_BATCH_TOKENS[0])


def worthwhile(seconds: Mapping[Precision, float]) -> Precision:
    """The type to compute in, by the seconds the same work takes in each."""
    chosen: Precision = "float32"
    for precision in ("bfloat16", "int8"):
        if precision in seconds and seconds[precision] <= seconds[chosen] * _GAIN[precision]:
            chosen = precision
    return chosen


def _block(width: int, device: str, precision: Precision) -> Callable[[], object]:
    """A feed-forward block of a transformer, ready to run: width to 4 x width, GELU, and back."""
    import torch
    from torch import nn

    from cloister_embedder.models.linear import linear_layer

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    wide, narrow = (
        layer if device == "cuda" else linear_layer(layer, precision)
        for layer in (nn.Linear(n, m, device=device, dtype=dtype) for n, m in ((width, 4 * width), (4 * width, width)))
    )
    inputs = [torch.randn(rows, width, device=device, dtype=dtype) for rows in _ROWS]

    def run() -> None:
        with torch.inference_mode():
            for rows in inputs:
                narrow(nn.functional.gelu(wide(rows)))
            if device == "cuda":
                torch.cuda.synchronize()

    run()
    return run
