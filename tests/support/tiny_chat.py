"""A tiny chat model that sees and thinks, in the real format, with weights that are computed instead of trained.

Idefics3's shape: a one-layer tower, a connector and a one-layer Llama, with SmolLM2's tokenizer and a few tokens more.
Nothing is added to the stream of the language model by its layer, so the next token follows from the last one alone,
and by such a margin that every processor and every temperature finds the same: after a line break it thinks
`THOUGHT`, then it says `ANSWER`, and ends. What it is shown it does not understand; that an image is at its place in
the prompt, with as many tokens as it takes, is vLLM's doing, and real.
"""

from itertools import pairwise
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
)

__all__ = ["ANSWER", "IMAGE", "THOUGHT", "make_tiny_chat"]

THOUGHT = "Let us see."
ANSWER = "Yes!"
IMAGE = f"<fake_token_around_image><global-img>{'<image>' * 4}<fake_token_around_image>"
"""What stands in the prompt for each image, whatever its size: 64 pixels a side, in patches of 16, four to a token."""

_SPECIAL = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
_ADDED = ["<think>", "</think>"]
_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] -%}
{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}
{%- endfor %}{% endif %}<|im_end|>
{% endfor -%}
{% if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}"""
_WIDTH = 64
_PIXELS = 64
_MARGIN = 20.0


def make_tiny_chat(folder: Path, tokenizer_folder: Path, *, context: int = 8192) -> Path:
    """Makes the model in ``folder``. ``tokenizer_folder`` is that of SmolLM2."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    tokenizer.add_special_tokens({"additional_special_tokens": _SPECIAL})
    tokenizer.add_tokens(_ADDED)
    tokenizer.chat_template = _TEMPLATE
    layer = {"hidden_size": _WIDTH, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Idefics3Config(
        text_config={
            **layer,
            "model_type": "llama",
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": context,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": False,
        },
        vision_config={**layer, "image_size": _PIXELS, "patch_size": 16},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config.architectures = ["Idefics3ForConditionalGeneration"]
    torch.manual_seed(7)
    model = Idefics3ForConditionalGeneration(config)
    _write_chain(model, _chain(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    side = {"longest_edge": _PIXELS}
    images = Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False)
    Idefics3Processor(images, tokenizer, image_seq_len=IMAGE.count("<image>")).save_pretrained(folder)
    return folder


def _chain(tokenizer: AutoTokenizer) -> list[int]:
    """The tokens from the line break on. After its end, where that is to be ignored, it speaks again."""
    text = f"\n{THOUGHT}</think>{ANSWER}{tokenizer.eos_token}"
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    assert len(set(ids)) == len(ids), "each token has one that follows"
    return [*ids, ids[ids.index(tokenizer.convert_tokens_to_ids("</think>")) + 1]]


def _write_chain(model: Idefics3ForConditionalGeneration, chain: list[int]) -> None:
    """Each token of the chain has a direction of its own, in which the head finds the token after it."""
    weights = dict(model.named_parameters())
    (embedding,) = (value for name, value in weights.items() if name.endswith("embed_tokens.weight"))
    (head,) = (value for name, value in weights.items() if name.endswith("lm_head.weight"))
    with torch.no_grad():
        for name, value in weights.items():
            if "text_model" in name and name.endswith(("o_proj.weight", "down_proj.weight")):
                value.zero_()
        head.zero_()
        for direction, (token, following) in enumerate(pairwise(chain)):
            embedding[token] = torch.eye(_WIDTH)[direction]
            head[following] += _MARGIN * torch.eye(_WIDTH)[direction]
