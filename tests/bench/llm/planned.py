"""Runs in vLLM's environment: what vLLM says of its cache as it starts, beside what `cloister_llm plan` says.

python -m tests.bench.llm.planned MODELS

MODELS is a file with the folders of models by name.

The models are published ones, by their ``config.json``, built without memory (PyTorch's ``meta`` device): vLLM's own
code asks each of their layers what it keeps, hands out the cache in blocks, and says what fits. That is what it logs as
it starts, "KV cache size: … tokens, Maximum concurrency for … tokens per request: …x", and needs no weights. Each is
built in a process of its own, since vLLM keeps much of one model for the next.
"""

import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cloister_llm.plan import Load, plan_capacity, read_shape
from cloister_llm.plan.capacity import GIB

__all__: list[str] = []

_CACHE = 64 * GIB
_CONTEXT = 32768


def main() -> None:
    """Prints the table."""
    folders = json.loads(Path(sys.argv[1]).read_text())
    os.environ |= {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    import vllm.v1.worker.gpu_model_runner  # noqa: F401 - once, for all
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda work: work()  # which imports all of it again, to learn of a model's kind

    context = multiprocessing.get_context("fork")
    print(f"{'model':20}{'tokens, planned':>18}{'vLLM':>12}{'error':>8}{'at once, planned':>20}{'vLLM':>9}", flush=True)
    for name, folder in folders.items():
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_compare, args=(name, Path(folder), theirs))
        process.start()
        theirs.close()
        try:
            print(ours.recv(), flush=True)
        except EOFError:
            print(f"{name:20}  vLLM ended", flush=True)
        process.join()


def _compare(name: str, folder: Path, out: Any) -> None:
    try:
        out.send(_line(name, folder))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the line of this model
        out.send(f"{name:20}  not on a CPU: {type(error).__name__} {' '.join(str(error).split())[:120]}")


def _line(name: str, folder: Path) -> str:
    shape = read_shape(json.loads((folder / "config.json").read_text()))
    context = min(_CONTEXT, shape.max_context)
    # (The cache is given, so that weights and workspace say nothing.)
    capacity = plan_capacity(shape, GIB, Load("cpu", 128 * GIB, context=context, kv_cache_bytes=_CACHE))
    tokens, at_once = _vllms(folder, context)
    planned = capacity.kv_cache / capacity.conversation
    return (
        f"{name:20}{int(planned * context):>18,}{tokens:>12,}{planned / at_once - 1:>8.2%}"
        f"{planned:>20.2f}{at_once:>9.2f}"
    )


def _vllms(folder: Path, context: int) -> tuple[int, float]:
    """Tokens that the cache holds, and conversations of ``context`` tokens, as vLLM reckons them when it starts."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.platforms import current_platform
    from vllm.v1.core.kv_cache_utils import get_kv_cache_capacity, get_kv_cache_configs
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    config = EngineArgs(
        str(folder),
        skip_tokenizer_init=True,
        load_format="dummy",
        enforce_eager=True,
        dtype="bfloat16",
        max_model_len=context,
        max_num_batched_tokens=2048,
        kv_cache_memory_bytes=_CACHE,
        distributed_executor_backend="uni",
        enable_prefix_caching=True,
    ).create_engine_config()
    with set_current_vllm_config(config), tempfile.NamedTemporaryFile() as meeting:
        parallel_state.init_distributed_environment(1, 0, f"file://{meeting.name}", 0, "gloo")
        parallel_state.initialize_model_parallel(1, 1)
        with torch.device("meta"), _type(torch.bfloat16):
            initialize_model(config)
        config.cache_config.kv_cache_layout = "LBNHC"  # how blocks lie in memory, not how large they are
        current_platform.update_block_size_for_backend(config)
        runner = GPUModelRunner.__new__(GPUModelRunner)  # as much of one as is asked for what layers keep
        runner.vllm_config, runner.shared_kv_cache_layers = config, {}
        (found,) = get_kv_cache_configs(config, [runner.get_kv_cache_spec()], [_CACHE])
        tokens, at_once = get_kv_cache_capacity(config, found)
        return int(tokens), float(at_once)


@contextlib.contextmanager
def _type(dtype: Any) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


if __name__ == "__main__":
    main()
