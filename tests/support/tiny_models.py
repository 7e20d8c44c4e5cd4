"""Tiny models in the real formats, made on the spot with fixed random weights.

No cross-encoder and no CLIP model comes in a package. These are untrained: they prove that folders of their kind load,
tokenise, batch and answer, and say nothing about quality.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
)

from tests.support.models import minilm_folder

TINY_RERANKER_TOKENS = 64
TINY_CLIP_TOKENS = 24
TINY_CLIP_DIMENSIONS = 16


def make_reranker(folder: Path, *, outputs: int = 1) -> Path:
    """A one-layer cross-encoder with MiniLM's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder(), local_files_only=True)
    tokenizer.model_max_length = TINY_RERANKER_TOKENS
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=TINY_RERANKER_TOKENS,
        num_labels=outputs,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_clip(folder: Path) -> Path:
    """A one-layer CLIP that reads texts and 32-pixel images."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer

    source = folder / "transformers"
    tokenizer = _clip_tokenizer()
    torch.manual_seed(7)
    layer = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = layer | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": TINY_CLIP_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = layer | {"image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=TINY_CLIP_DIMENSIONS)
    CLIPModel(config).save_pretrained(source)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(source)
    SentenceTransformer(modules=[Transformer(str(source))], device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


def _clip_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["a red square", "a blue circle", "a photo of a green triangle"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in special],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=TINY_CLIP_TOKENS,
    )
