"""Models with layers of every kind, whose plans are compared with what vLLM says; see `planned`."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.llm import chat_model_folder, vllm_python
from tests.unit.llm import published
from tests.unit.llm.test_shape import (
    DEEPSEEK_V2_LITE,
    GEMMA_2_9B,
    GPT_OSS_20B,
    LLAMA_3_8B,
    MISTRAL_7B_V01,
    MIXTRAL_8X7B,
)

__all__ = ["compare_plans"]

_ROOT = Path(__file__).parents[3]

_PUBLISHED: Mapping[str, dict[str, Any]] = {
    "Llama 3 8B": {**LLAMA_3_8B, "architectures": ["LlamaForCausalLM"]},
    "Falcon 7B": published.FALCON_7B,
    "Mistral 7B v0.1": {**MISTRAL_7B_V01, "architectures": ["MistralForCausalLM"]},
    "Gemma 2 9B": {**GEMMA_2_9B, "architectures": ["Gemma2ForCausalLM"]},
    "Gemma 3 4B": {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
        "vocab_size": 262208,
        "torch_dtype": "bfloat16",
    },
    "Mixtral 8x7B": {**MIXTRAL_8X7B, "architectures": ["MixtralForCausalLM"]},
    "gpt-oss 20B": {
        **GPT_OSS_20B,
        "architectures": ["GptOssForCausalLM"],
        "quantization_config": None,
        "rope_scaling": {**GPT_OSS_20B["rope_scaling"], "beta_fast": 32.0, "beta_slow": 1.0},  # type: ignore[dict-item]
    },
    "DeepSeek V2 Lite": {**DEEPSEEK_V2_LITE, "architectures": ["DeepseekV2ForCausalLM"]},
    "Jamba": published.JAMBA,
    "Falcon-H1 7B": published.FALCON_H1_7B,
    "Mamba-2 780M": published.MAMBA_2_780M,
    "Nemotron Nano 9B": published.NEMOTRON_NANO_9B,
    "Qwen3-Next 80B": published.QWEN_3_NEXT_80B,
}


def compare_plans() -> None:
    """Prints a table: what is planned, what vLLM says, and the error."""
    with tempfile.TemporaryDirectory() as place:
        folders = {"SmolLM2": str(chat_model_folder())}
        for number, (name, config) in enumerate(_PUBLISHED.items()):
            folder = Path(place, str(number))
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(config))
            folders[name] = str(folder)
        file = Path(place, "models.json")
        file.write_text(json.dumps(folders))
        subprocess.run([vllm_python(), "-m", "tests.bench.llm.planned", str(file)], cwd=_ROOT, check=True)
