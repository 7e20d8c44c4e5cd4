"""Runs in vLLM's environment: what vLLM says of its cache as it starts, beside what `cloister_llm plan` says.

python -m tests.bench.llm.planned [NAME,NAME]

The models have the layers, heads, windows and states of published ones, and are narrow elsewhere, with dummy weights:
what is compared is what a token and a conversation keep, which has nothing to do with how wide a model is. Each starts
in a process of its own, since vLLM keeps much of one model for the next. What it says is what it logs: "CPU KV cache
size: … tokens, Maximum concurrency for … tokens per request: …x".
"""

import copy
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloister_llm.plan import Load, plan_capacity, read_shape, weight_bytes
from cloister_llm.plan.capacity import GIB

from deploy.local.models import CHAT_MODEL, ensure
from tests.unit.llm import published
from tests.unit.llm.test_shape import (
    DEEPSEEK_V2_LITE,
    GEMMA_2_9B,
    GEMMA_3_4B,
    GPT_OSS_20B,
    LLAMA_3_8B,
    MISTRAL_7B_V01,
    MIXTRAL_8X7B,
)

__all__: list[str] = []

_ROOT = Path(__file__).parents[3]
_CACHE = 1 * GIB
_SMALL = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "n_routed_experts": 8,
    "num_experts": 8,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 64,
    "vocab_size": 1024,
}
_CONTEXT = 8192

Config = dict[str, Any]


def narrow(config: Config, **more: Any) -> Config:
    """The model, with what no cache depends on made small."""
    found = copy.deepcopy(config)
    text = found.get("text_config", found)
    text.update({key: value for key, value in _SMALL.items() if text.get(key) is not None})
    found.pop("quantization_config", None)
    return {**found, **more}


MODELS: dict[str, Callable[[], Config]] = {
    "SmolLM2 (its own weights)": dict,
    "Llama 3 8B, grouped queries": lambda: narrow(LLAMA_3_8B, architectures=["LlamaForCausalLM"]),
    "Falcon 7B, one head": lambda: narrow(published.FALCON_7B, hidden_size=71 * 64, num_hidden_layers=8),
    "Mistral 7B v0.1, windows": lambda: narrow(MISTRAL_7B_V01, architectures=["MistralForCausalLM"], head_dim=128),
    "Gemma 2 9B, half windows": lambda: narrow(GEMMA_2_9B, architectures=["Gemma2ForCausalLM"]),
    "Gemma 3 4B, five of six": lambda: narrow(
        {**GEMMA_3_4B["text_config"], "torch_dtype": "bfloat16"}, architectures=["Gemma3ForCausalLM"]
    ),
    "Mixtral 8x7B": lambda: narrow(MIXTRAL_8X7B, architectures=["MixtralForCausalLM"], head_dim=128),
    "gpt-oss 20B, half windows": lambda: narrow(GPT_OSS_20B, architectures=["GptOssForCausalLM"]),
    "DeepSeek V2 Lite, latent": lambda: narrow(DEEPSEEK_V2_LITE, architectures=["DeepseekV2ForCausalLM"]),
    "Jamba, Mamba": lambda: narrow(published.JAMBA, hidden_size=1024),
    "Bamba 9B, Mamba-2": lambda: narrow(published.BAMBA_9B, hidden_size=4096, num_hidden_layers=32),
    "Falcon-H1 7B, both": lambda: narrow(published.FALCON_H1_7B, hidden_size=3072),
    "Qwen3-Next 80B, delta": lambda: narrow(published.QWEN_3_NEXT_80B),
    "LFM2 1.2B, convolutions": lambda: narrow(published.LFM2_1_2B, hidden_size=2048),
}


def main() -> None:
    """Prints the table."""
    wanted = [name for name in MODELS if len(sys.argv) < 2 or any(one in name for one in sys.argv[1].split(","))]
    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
    os.environ |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    import vllm.entrypoints.llm  # noqa: F401 - once, for all

    context = multiprocessing.get_context("fork")
    print(f"{'model':28}{'tokens, planned':>18}{'vLLM':>12}{'error':>8}{'at once, planned':>20}{'vLLM':>8}", flush=True)
    for name in wanted:
        ours, theirs = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory() as folder:
            process = context.Process(target=_compare, args=(name, Path(folder), theirs))
            process.start()
            theirs.close()
            try:
                print(ours.recv(), flush=True)
            except EOFError:
                print(f"{name:28}  vLLM ended", flush=True)
            process.join()


def _compare(name: str, folder: Path, out: Any) -> None:
    try:
        out.send(_line(name, folder))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the line of this model
        out.send(f"{name:28}  vLLM does not start it on a CPU: {' '.join(str(error).split())[:150]}")


def _line(name: str, folder: Path) -> str:
    from vllm import LLM

    config = MODELS[name]()
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    else:
        folder = ensure(CHAT_MODEL, _ROOT / ".models", lambda _: None)
        config = json.loads((folder / "config.json").read_text())
    shape = read_shape(config)
    load = Load("cpu", 64 * GIB, context=min(_CONTEXT, shape.max_context), kv_cache_bytes=_CACHE)
    capacity = plan_capacity(shape, weight_bytes(folder, shape), load)
    model = LLM(
        str(folder),
        skip_tokenizer_init=True,
        load_format="dummy",
        enforce_eager=True,
        dtype="bfloat16",
        max_model_len=capacity.context,
        kv_cache_memory_bytes=capacity.kv_cache,
        distributed_executor_backend="uni",
        limit_mm_per_prompt={"image": 0},
        enable_prefix_caching=True,
    )
    told = model.llm_engine.vllm_config.cache_config
    at_once = capacity.kv_cache / capacity.conversation
    tokens = int(at_once * capacity.context)
    error = tokens / told.kv_cache_size_tokens - 1
    return (
        f"{name:28}{tokens:>18,}{told.kv_cache_size_tokens:>12,}{error:>8.1%}"
        f"{at_once:>20.2f}{told.kv_cache_max_concurrency:>8.2f}"
    )


if __name__ == "__main__":
    main()
