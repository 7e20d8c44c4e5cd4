"""Runs in vLLM's environment: how long a model's matrices take, in each type. See `cloister_llm.precision`.

stdin is JSON: ``shapes``, rows and columns of each matrix, and ``dtypes``, names of torch's types. stdout's last line
is JSON: for each type the seconds of one pass through all matrices for 1, 16 and 32 streams.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

STREAMS = (1, 16, 32)
_ROUNDS = 7
_SECONDS = 4.0
"""After which no further round is begun; the second one is, whatever the first took."""


def main() -> None:
    """In turns, and the best time of each counts: so a machine that is busy at start slows all types alike."""
    import torch

    asked = json.load(sys.stdin)
    with torch.inference_mode():
        works = {name: _works(asked["shapes"], getattr(torch, name)) for name in asked["dtypes"]}
        best = {name: [float("inf")] * len(STREAMS) for name in works}
        started = time.perf_counter()
        for number in range(_ROUNDS):
            if number > 1 and time.perf_counter() - started > _SECONDS:
                break
            for name, passes in works.items():
                for place, work in enumerate(passes):
                    best[name][place] = min(best[name][place], _timed(work))
    sys.stdout.write(f"{json.dumps(best)}\n")


def _works(shapes: Sequence[tuple[int, int]], dtype: Any) -> list[Callable[[], None]]:
    """A pass through all matrices for each number of streams."""
    import torch

    layers = [(_product(torch.full((rows, columns), 0.01, dtype=dtype)), columns) for rows, columns in shapes]
    widths = {columns for _, columns in layers}

    def passing(streams: int) -> Callable[[], None]:
        inputs = {width: torch.full((streams, width), 0.01, dtype=dtype) for width in widths}

        def run() -> None:
            for multiply, width in layers:
                multiply(inputs[width])

        return run

    return [passing(streams) for streams in STREAMS]


def _product(weight: Any) -> Callable[[Any], Any]:
    """vLLM's multiplication on this processor: oneDNN's with weights that it lays out once, or torch's."""
    import torch
    from vllm import _custom_ops as kernels

    if kernels._supports_onednn:  # vLLM's own question, in `dispatch_cpu_unquantized_gemm`
        try:
            handler = kernels.create_onednn_mm(weight.t(), 32)
        except RuntimeError:
            pass  # oneDNN has no kernel for these sizes; vLLM multiplies by torch then, and so does this.
        else:
            return lambda inputs: kernels.onednn_mm(handler, inputs, None)
    return lambda inputs: torch.nn.functional.linear(inputs, weight)


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
