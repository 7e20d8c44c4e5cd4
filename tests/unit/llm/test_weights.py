"""Weight sizes from file headers, and damaged files."""

import json
from pathlib import Path
from typing import Any

import pytest
from cloister_llm.plan import PlanError, read_shape, weight_bytes

from tests.unit.llm.conftest import SMOLLM2, write_safetensors
from tests.unit.llm.test_shape import GPT_OSS_20B, LLAMA_3_8B

SHAPE = read_shape(SMOLLM2)


def test_bytes_are_those_of_the_tensors(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": ("BF16", 1000), "b": ("I8", 50)})
    assert weight_bytes(tmp_path, SHAPE) == 1050


def test_stored_32_bit_floats_are_loaded_as_16_bit_ones(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": ("F32", 1000)})
    assert weight_bytes(tmp_path, SHAPE) == 500
    assert weight_bytes(tmp_path, SHAPE, "float32") == 1000


def test_only_files_of_the_index_count(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one.safetensors", {"a": ("BF16", 10)})
    write_safetensors(tmp_path / "consolidated.safetensors", {"a": ("BF16", 10)})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    assert weight_bytes(tmp_path, SHAPE) == 10


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "one.safetensors", {"a": ("BF16", 10)})
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(PlanError, match=r"lacks two\.safetensors"):
        weight_bytes(tmp_path, SHAPE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:5],
        lambda data: b"\xff" * len(data),
        lambda _: b"\x02" + bytes(7) + b"[]",
        lambda _: b"\x08" + bytes(7) + b'{"a":{}}',
    ],
)
def test_a_damaged_file_is_noticed(tmp_path: Path, damage: Any) -> None:
    file = tmp_path / "model.safetensors"
    write_safetensors(file, {"a": ("BF16", 1000)})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(PlanError, match="damaged or incomplete"):
        weight_bytes(tmp_path, SHAPE)


def test_without_files_the_models_class_counts(tmp_path: Path) -> None:
    assert weight_bytes(tmp_path, SHAPE) == SHAPE.parameters * 2


@pytest.mark.parametrize(
    ("config", "quantisation", "size"),
    [
        (GPT_OSS_20B, GPT_OSS_20B["quantization_config"], 13.76e9),  # 12.8 GiB: only experts are in 4 bits
        (LLAMA_3_8B, {"quant_method": "awq", "bits": 4}, 5.6e9),
        (LLAMA_3_8B, {"quant_method": "fp8"}, 9.1e9),
        (LLAMA_3_8B, {"quant_method": "bitsandbytes", "load_in_4bit": True}, 5.6e9),
        (
            LLAMA_3_8B,
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}},
            9.1e9,
        ),
        (LLAMA_3_8B, {"quant_method": "something new"}, 16.06e9),
    ],
    ids=["mxfp4", "awq", "fp8", "bitsandbytes", "compressed-tensors", "unknown"],
)
def test_quantised_weights_are_counted_as_such(
    tmp_path: Path, config: dict[str, Any], quantisation: dict[str, Any], size: float
) -> None:
    """Sizes of the published files, within a few hundredths."""
    shape = read_shape({**config, "quantization_config": quantisation})
    assert weight_bytes(tmp_path, shape) == pytest.approx(size, rel=0.03)
