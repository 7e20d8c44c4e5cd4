"""What the llm unit tests share: settings, a model folder, and small tokenizers trained in memory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloister_common.testing.serving import free_port
from cloister_llm.guard.middleware import Guard
from cloister_llm.settings import LlmSettings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tests.unit.llm.guarded import TOKEN, application, lifespan

CONTROL = ["<|im_start|>", "<|im_end|>"]
PLAIN_ADDED = ["<think>", "</think>", "\n\n"]
_CORPUS = ["the quick brown fox", "You are a pirate", "<|im_start|> <|im_end|> <think> im_start think", "\n\n a b"] * 20

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(autouse=True)
def _measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no vLLM here to measure with. Tests of what is measured say what it would be."""

    def measure(*_: Any) -> dict[str, list[float]]:
        raise OSError

    monkeypatch.setattr("cloister_llm.precision.measure", measure)


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., LlmSettings]:
    """Settings with a token, changed as the test wants: ``make_settings(engine={"eager": True})``."""
    port, metrics_port = free_port(), free_port()  # the launcher looks whether nobody has them

    def make(**sections: Any) -> LlmSettings:
        token = tmp_path / "token"
        token.write_text("t" * 40)
        data: dict[str, Any] = {
            "token_file": token,
            "model": {"name": "small", "path": tmp_path / "model"},
            "engine": {"device": "cpu", "cache_dir": tmp_path / "cache"},
            "server": {"port": port, "metrics_port": metrics_port},
        }
        for name, section in sections.items():
            data[name] = {**data.get(name, {}), **section} if isinstance(section, dict) else section
        return LlmSettings.model_validate(data)

    return make


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder that looks like SmolLM2's, with one small tensor for weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMOLLM2))
    (folder / "tokenizer.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", {"a": ("BF16", 1000)})
    return folder


@pytest.fixture
async def guard(make_settings: Any, monkeypatch: pytest.MonkeyPatch) -> Guard:
    """A guard that has started."""
    guard = Guard(application(), make_settings(max_body_bytes=4096, max_json_values=1000), prepare=lambda *_: None)
    monkeypatch.setattr(guard.drain, "on_signals", lambda stop: None)
    assert await lifespan(guard) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    return guard


@pytest.fixture
async def client(guard: Guard) -> Any:
    transport = httpx.ASGITransport(guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://llm", headers=TOKEN) as client:
        yield client


def write_safetensors(file: Path, tensors: dict[str, tuple[str, int]]) -> None:
    """A safetensors file of zeros; ``tensors`` gives type and bytes of each."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(header).encode()
    file.write_bytes(len(head).to_bytes(8, "little") + head + bytes(end))


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    """Byte-level BPE with control tokens, of which the base vocabulary knows the spellings as well."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    tokenizer.add_tokens(PLAIN_ADDED)
    return tokenizer


@pytest.fixture(scope="session")
def sentencepiece_like() -> Tokenizer:
    """Unigram with a space put before every text, as converted SentencePiece models have it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Replace("▁", " ")
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
        unk_token="<unk>",
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    tokenizer.train_from_iterator([line.replace(" ", "▁") for line in _CORPUS], trainer)
    return tokenizer
