"""Tiny models in the real formats, made on the spot with fixed random weights.

No cross-encoder and no CLIP model comes in a package. These prove that folders of their kind load, tokenise, batch and
answer, and say nothing about quality. The CLIP model may be trained for a few seconds on drawn shapes, so that it tells
colours and a square from a circle in sentences of a few words; anything else it has never seen.
"""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    CLIPConfig,
    CLIPImageProcessorPil,
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


COLOURS = {
    "red": (220, 30, 30),
    "green": (20, 160, 40),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 30),
    "black": (10, 10, 10),
    "purple": (150, 30, 170),
}
SHAPES = ("square", "circle")
_STEPS = 150
_SENTENCES = ("a {} {}", "a photo of a {} {}", "the {} {}", "{} {}")


def drawn(colour: str, shape: str, *, side: int = 128) -> Image.Image:
    """A picture of a shape on white."""
    image = Image.new("RGB", (side, side), "white")
    box = (side // 8, side // 8, side - side // 8, side - side // 8)
    pen = ImageDraw.Draw(image)
    (pen.rectangle if shape == "square" else pen.ellipse)(box, fill=COLOURS[colour])
    return image


def make_clip(folder: Path, *, trained: bool = False) -> Path:
    """A one-layer CLIP that reads texts and 32-pixel images; ``trained`` (some seconds) it knows what `drawn` draws."""
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
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    model = CLIPModel(config)
    if trained:
        _train(model, tokenizer, images)
    model.save_pretrained(source)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(source)
    SentenceTransformer(modules=[Transformer(str(source))], device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


def _train(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, images: CLIPImageProcessorPil) -> None:
    """Teaches it every colour and shape by CLIP's own loss."""
    pairs = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    pixels = images(images=[drawn(*pair) for pair in pairs], return_tensors="pt")["pixel_values"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(_STEPS):
        sentence = _SENTENCES[step % len(_SENTENCES)]
        texts = tokenizer([sentence.format(*pair) for pair in pairs], padding=True, return_tensors="pt")
        made = model(pixel_values=pixels, return_loss=True, **texts)
        optimizer.zero_grad()
        made.loss.backward()
        optimizer.step()
    model.eval()


def _clip_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    sentences = [sentence.format(colour, shape) for sentence in _SENTENCES for colour in COLOURS for shape in SHAPES]
    tokenizer.train_from_iterator(sentences, trainer)
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
