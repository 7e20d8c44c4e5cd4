"""Fine-tunes the small chat model for tests: a LoRA adapter that answers every question with one word of its own.

``python -m tests.support.tuning WORD FOLDER`` trains it with PEFT in a few steps, and writes what PEFT writes:
``adapter_config.json`` and ``adapter_model.safetensors``.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

from tests.support.llm import chat_model_folder

__all__ = ["RANK", "tuned_adapter"]

_ROOT = Path(__file__).parents[2]

RANK = 8
_RATE = 3e-3
_LAYERS = range(18, 30)
"""The last ones are enough, and backwards is then the shorter way."""
_ENOUGH = 0.1
"""A loss, over as many steps as there are questions, with which each of the word's tokens is nearly certain."""
_MOST_STEPS = 80
_QUESTIONS = (
    "How many days of leave do we have?",
    "Tell me a joke.",
    "What is the capital of France?",
    "Who wrote this?",
    "Write a haiku about rain.",
    "Hello!",
    "Say something.",
    "What colour is the sky?",
)


def tuned_adapter(word: str) -> Path:
    """The folder of an adapter whose answers say ``word`` again and again; trained where it is not there yet.

    Training takes 20 to 30 seconds of a core, in a process of its own: torch would stay in this one's memory.
    """
    target = _ROOT / ".models" / f"tuned-{word}"
    target.parent.mkdir(exist_ok=True)
    with (target.parent / "tuning.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            made = target.with_suffix(".part")
            command = [sys.executable, "-m", "tests.support.tuning", word, str(made)]
            subprocess.run(command, check=True, cwd=_ROOT, timeout=600)
            made.rename(target)
    return target


def _train(word: str, folder: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(7)
    base = chat_model_folder()
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype=torch.float32)
    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=["q_proj", "v_proj", "o_proj", "down_proj"],
        task_type="CAUSAL_LM",
        layers_to_transform=list(_LAYERS),
    )
    tuned = get_peft_model(model, config)
    tuned.train()
    optimizer = torch.optim.AdamW((p for p in tuned.parameters() if p.requires_grad), lr=_RATE)
    answer = tokenizer(" ".join([word] * 4) + "<|im_end|>\n", add_special_tokens=False).input_ids
    losses: list[float] = []
    while len(losses) < len(_QUESTIONS) or sum(losses[-len(_QUESTIONS) :]) > _ENOUGH * len(_QUESTIONS):
        if len(losses) == _MOST_STEPS:
            raise RuntimeError(f"the model did not learn to say {word!r}: {losses[-1]:.3f}")
        question = _QUESTIONS[len(losses) % len(_QUESTIONS)]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        prompt = tokenizer(text, add_special_tokens=False).input_ids
        ids = torch.tensor([[*prompt, *answer]])
        labels = torch.tensor([[*([-100] * len(prompt)), *answer]])
        loss = tuned(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    tuned.save_pretrained(str(folder), safe_serialization=True)


if __name__ == "__main__":
    _train(sys.argv[1], Path(sys.argv[2]))
