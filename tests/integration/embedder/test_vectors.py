"""Real models through the loading code: the same vectors and scores as sentence-transformers' own, in any precision."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cloister_common.settings import SettingsError
from cloister_embedder.models import UnreadableImage, check_folder, load_encoder, loading
from cloister_embedder.models.precision import possible_precisions
from cloister_embedder.settings import ComputeSettings, ModelSettings
from PIL import Image
from sentence_transformers import CrossEncoder, SentenceTransformer
from structlog.testing import capture_logs

from tests.support.models import minilm_folder
from tests.support.tiny_models import (
    TINY_CLIP_DIMENSIONS,
    TINY_CLIP_TOKENS,
    TINY_RERANKER_TOKENS,
    drawn,
    make_clip,
    make_reranker,
)

TEXTS = [
    "A short question?",
    "The contract ends on 31 December unless either side gives notice three months before.",
    "Der Vertrag endet am 31. Dezember.",
    "def add(a, b):\n    return a + b",
    "日本語の文章も少し",
    "x",
    " ".join(f"word{index}" for index in range(60)),
    "Cats and dogs. " * 45,
]


LEAST_COSINE = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.99}
"""To the vector in float32, of the worst of `TEXTS`."""


def load(kind: str, path: Path, dtype: str = "auto", **more: Any) -> Any:
    settings = ModelSettings.model_validate({"kind": kind, "path": path, "dtype": dtype, **more})
    check_folder("m", settings)
    return load_encoder("m", settings, ComputeSettings(device="cpu"))


def matrix(encoder: Any, texts: list[str]) -> np.ndarray[Any, Any]:
    return np.stack([np.frombuffer(vector, "<f4") for vector in encoder.encode(encoder.prepare(texts))])


@pytest.fixture(scope="module")
def reference() -> np.ndarray[Any, Any]:
    """sentence-transformers' own float32 vectors of `TEXTS`."""
    model = SentenceTransformer(str(minilm_folder()), local_files_only=True, device="cpu")
    return np.asarray(model.encode(TEXTS, normalize_embeddings=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "auto"])
def test_vectors_agree_with_float32_sentence_transformers(reference: np.ndarray[Any, Any], dtype: str) -> None:
    if dtype == "int8" and "int8" not in possible_precisions("cpu"):
        with pytest.raises(SettingsError, match="Use dtype: auto"):
            load("text", minilm_folder(), dtype)
        return
    with capture_logs() as logged:
        vectors = matrix(load("text", minilm_folder(), dtype), TEXTS)
    precision = next(line["precision"] for line in logged if line["event"] == "model_computes")
    assert dtype in {"auto", precision}
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = (vectors * reference).sum(axis=1)
    assert cosines.min() >= LEAST_COSINE[precision], cosines


def test_measurement_of_an_earlier_start_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = ComputeSettings(device="cpu", measurements=tmp_path / "measured")
    settings = ModelSettings(kind="text", path=minilm_folder())
    first = load_encoder("m", settings, compute)
    (kept,) = (tmp_path / "measured").iterdir()
    kept.write_text(json.dumps({"precision": "float32", "batch_tokens": 1234}))
    monkeypatch.setattr(loading, "choose_precision", None)
    second = load_encoder("m", settings, compute)
    assert first.batch_tokens in {1024, 2048, 4096, 8192}
    assert second.batch_tokens == 1234


def test_prompts_of_the_folder_stand_before_queries_and_passages(tmp_path: Path) -> None:
    folder = tmp_path / "e5"
    shutil.copytree(minilm_folder(), folder)
    stated = json.loads((folder / "config_sentence_transformers.json").read_text())
    prompts = {"query": "query: ", "passage": "passage: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(stated | {"prompts": prompts}))
    model = SentenceTransformer(str(folder), local_files_only=True, device="cpu")
    text = "How long is the notice?"
    expected = [model.encode(text, prompt=prompt, normalize_embeddings=True) for prompt in ("", "query: ", "passage: ")]
    by_folder = load("text", folder, "float32")
    by_settings = load("text", minilm_folder(), "float32", prompts=prompts)
    for encoder in (by_folder, by_settings):
        for input_type, vector in zip((None, "query", "passage"), expected, strict=True):
            (got,) = encoder.encode(encoder.prepare([text], input_type))
            assert np.allclose(np.frombuffer(got, "<f4"), vector, atol=1e-5), input_type


def test_token_counts_are_the_models_own_and_nothing_is_cut() -> None:
    encoder = load("text", minilm_folder())
    tokenizer = SentenceTransformer(str(minilm_folder()), local_files_only=True, device="cpu").tokenizer
    texts = [*TEXTS, "word " * 5000]
    expected = [len(tokenizer(text, truncation=False)["input_ids"]) for text in texts]
    assert [tokens.length for tokens in encoder.prepare(texts)] == expected
    assert encoder.max_tokens == 256


def test_text_that_spells_a_special_token_is_text() -> None:
    encoder = load("text", minilm_folder())
    spelled, plain = encoder.prepare(["[SEP]", "sep"])
    assert spelled.length == 5
    assert plain.length == 3


def test_clip_folder_gives_the_vectors_of_its_text_side(tmp_path: Path) -> None:
    folder = make_clip(tmp_path)
    encoder = load("image", folder, "float32")
    assert (encoder.dimensions, encoder.max_tokens) == (TINY_CLIP_DIMENSIONS, TINY_CLIP_TOKENS)
    texts = ["a red square", "a blue circle beside it"]
    model = SentenceTransformer(str(folder), local_files_only=True, device="cpu")
    expected = np.asarray(model.encode(texts, normalize_embeddings=True))
    assert np.allclose(matrix(encoder, texts), expected, atol=1e-5)


def test_clip_folder_gives_the_vectors_of_pictures_beside_those_of_texts(tmp_path: Path) -> None:
    folder = make_clip(tmp_path)
    encoder = load("image", folder, "float32")
    pictures = [drawn("red", "square"), drawn("blue", "circle", side=40)]
    files = [file_of(one, kind) for one, kind in zip(pictures, ("PNG", "WEBP"), strict=True)]
    first, second = encoder.prepare_images(files)
    assert first.length == (32 // 16) ** 2 + 1
    mixed = encoder.encode([first, *encoder.prepare(["a red square"]), second])
    model = SentenceTransformer(str(folder), local_files_only=True, device="cpu")
    shown, read = (model.encode(inputs, normalize_embeddings=True) for inputs in (pictures, ["a red square"]))
    expected = np.stack([shown[0], read[0], shown[1]])
    assert np.allclose(np.stack([np.frombuffer(vector, "<f4") for vector in mixed]), expected, atol=1e-4)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(64), b"\xff\xd8\xff" + bytes(64), b"%PDF-1.7", b""])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    encoder = load("image", make_clip(tmp_path), "float32")
    with pytest.raises(UnreadableImage):
        encoder.prepare_images([content])


def file_of(picture: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, lossless=True)
    return out.getvalue()


def test_cross_encoder_folder_gives_its_scores_between_0_and_1(tmp_path: Path) -> None:
    folder = make_reranker(tmp_path)
    encoder = load("rerank", folder, "float32")
    assert encoder.max_tokens == TINY_RERANKER_TOKENS
    pairs = [("what is it", "this is it"), ("what is it", "nothing of the kind"), ("who", "me")]
    model = CrossEncoder(str(folder), local_files_only=True, device="cpu")
    expected = 1 / (1 + np.exp(-np.asarray(model.predict(pairs, activation_fn=torch.nn.Identity()), np.float64)))
    scores = encoder.encode(encoder.prepare(pairs))
    assert np.allclose(scores, expected, atol=1e-5)
    assert len({round(score, 6) for score in scores}) == 3


def test_cross_encoder_in_bfloat16_scores_finer_than_bfloat16(tmp_path: Path) -> None:
    folder = make_reranker(tmp_path)
    pairs = [("what is it", f"this is number {index} of {index * 7}") for index in range(40)]
    exact, fast = (
        np.asarray(encoder.encode(encoder.prepare(pairs)))
        for encoder in (load("rerank", folder, "float32"), load("rerank", folder, "bfloat16"))
    )
    assert np.corrcoef(exact, fast)[0, 1] > 0.99
    logits = torch.tensor(np.log(fast / (1 - fast)), dtype=torch.bfloat16)
    assert len(set(fast)) > len(set(logits.tolist()))


def test_model_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="takes no images"):
        load("image", minilm_folder())
    with pytest.raises(SettingsError, match="3 outputs"):
        load("rerank", make_reranker(tmp_path, outputs=3))


def test_the_folder_or_the_settings_say_how_vectors_may_be_cut(tmp_path: Path) -> None:
    folder = tmp_path / "matryoshka"
    shutil.copytree(minilm_folder(), folder)
    config = json.loads((folder / "config.json").read_text())
    for stated, expected in (
        ({}, ()),
        ({"matryoshka_dimensions": [128, 64, 384]}, [64, 128]),
        ({"is_matryoshka": True}, range(1, 384)),
    ):
        (folder / "config.json").write_text(json.dumps(config | stated))
        assert load("text", folder).shorter == expected
    assert load("text", folder, matryoshka_dimensions=[32]).shorter == [32]
    assert load("text", folder, matryoshka_dimensions=[]).shorter == ()
    with pytest.raises(SettingsError, match="numbers from 1 to 384"):
        load("text", folder, matryoshka_dimensions=[385])
