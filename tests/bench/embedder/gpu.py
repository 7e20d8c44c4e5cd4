"""The embedder's model code on a GPU: ``python -m tests.bench.embedder.gpu FOLDER``, the folder a text model's.

It needs torch, sentence-transformers and the packages of the service, and no server: it says which device and type are
chosen, how near the vectors are to those of a CPU in float32, and texts per second beside plain
``SentenceTransformer.encode`` on the same GPU, in turns.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cloister_embedder.models import Tokens, check_folder, load_encoder
from cloister_embedder.models.compute import choose_device
from cloister_embedder.settings import ComputeSettings, ModelSettings
from sentence_transformers import SentenceTransformer

_WORDS = ["the", "contract", "of", "both", "parties", "ends", "with", "a", "notice", "in", "writing", "this", "year"]
_LEAST_COSINE = 0.999
_MOST_TEXTS = 512


def texts(count: int, shortest: int, longest: int, seed: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(_WORDS, k=source.randint(shortest, longest))) for _ in range(count)]


def encoded(encoder: Any, some: list[str]) -> np.ndarray[Any, Any]:
    """The vectors of ``some``, as the service makes them: sorted by length, in passes of its size."""
    tokens: list[Tokens] = encoder.prepare(some)
    order = sorted(range(len(tokens)), key=lambda index: tokens[index].length)
    rows = np.empty((len(some), encoder.dimensions), np.float32)
    start = 0
    while start < len(order):
        end = start + 1
        while (
            end < min(len(order), start + _MOST_TEXTS)
            and tokens[order[end]].length * (end + 1 - start) <= encoder.batch_tokens
        ):
            end += 1
        batch = order[start:end]
        for index, vector in zip(batch, encoder.encode([tokens[one] for one in batch]), strict=True):
            rows[index] = np.frombuffer(vector, "<f4")
        start = end
    return rows


def median_seconds(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each, in turns."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 1):
        for name, work in works.items():
            torch.cuda.synchronize()
            started = time.perf_counter()
            work()
            torch.cuda.synchronize()
            if round_:
                took[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.embedder.gpu")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, auto is {choose_device('auto')}, {torch.cuda.get_device_name()}")

    def load(dtype: str, device: str) -> Any:
        settings = ModelSettings.model_validate({"kind": "text", "path": arguments.folder, "dtype": dtype})
        check_folder("m", settings)
        return load_encoder("m", settings, ComputeSettings.model_validate({"device": device}))

    sample = texts(64, 1, 180, 1)
    exact = encoded(load("float32", "cpu"), sample)
    plain = SentenceTransformer(str(arguments.folder), local_files_only=True, device="cuda")
    encoders = {dtype: load(dtype, "auto") for dtype in ("auto", "float32", "bfloat16")}
    print("\ntype      least cosine to float32 on the CPU")
    for dtype, encoder in encoders.items():
        least = float((encoded(encoder, sample) * exact).sum(axis=1).min())
        print(f"{dtype:9} {least:.6f}")
        if least < _LEAST_COSINE:
            raise SystemExit(f"{dtype} is further from float32 than {_LEAST_COSINE}")
    workloads = {
        "4,096 passages of 5 to 150 words": texts(4096, 5, 150, 2),
        "64 queries of 5 to 12 words": texts(64, 5, 12, 3),
    }
    print("\ntexts per second" + " " * 20 + "".join(f"{name:>12}" for name in ("plain", *encoders)))
    for title, some in workloads.items():
        works: dict[str, Callable[[], object]] = {"plain": partial(plain.encode, some)}
        works |= {name: partial(encoded, encoder, some) for name, encoder in encoders.items()}
        took = median_seconds(works, arguments.rounds)
        print(f"{title:36}" + "".join(f"{len(some) / seconds:12.0f}" for seconds in took.values()), flush=True)


if __name__ == "__main__":
    main()
