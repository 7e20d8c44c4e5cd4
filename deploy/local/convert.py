"""Turns a GGUF file into a folder of safetensors that vLLM loads: ``python -m deploy.local.convert FILE FOLDER``.

Runs as a process of its own, because torch would otherwise stay in the runner's memory.
"""

import sys
from pathlib import Path

from deploy.local.process import end_with_parent

__all__ = ["convert"]


def convert(source: Path, target: Path) -> None:
    """Writes the dequantised weights (bfloat16), configuration, tokenizer and chat template of ``source``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        local_files_only=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
    # GGUF carries no limit for the tokenizer, which would then pretend to 10^30 tokens.
    tokenizer.model_max_length = model.config.max_position_embeddings
    # What the model's authors recommend, and vLLM takes as its defaults; at temperature 1 so small a model rambles.
    model.generation_config.do_sample = True
    model.generation_config.temperature = 0.2
    model.generation_config.top_p = 0.9
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    for path in target.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    end_with_parent()
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
