"""The type that a model computes in on a CPU: chosen by what was measured, kept, and only where there is room."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cloister_llm import launcher, precision
from cloister_llm.hardware import processor
from cloister_llm.launcher import prepare
from cloister_llm.plan.weights import matrices
from cloister_llm.precision import worthwhile

CONFIG = Path("llm.yaml")
GIB = 1 << 30


@pytest.fixture
def matrix_folder(model_folder: Path) -> Path:
    """The model folder, with one matrix."""
    header = {"a": {"dtype": "BF16", "shape": [100, 50], "data_offsets": [0, 10_000]}}
    head = json.dumps(header).encode()
    (model_folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(10_000))
    return model_folder


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[Any]]:
    """Says how many times as long as in 16 bits it takes in 32, and gives what is asked for."""

    def say(times: float) -> list[Any]:
        asked: list[Any] = []

        def measure(shapes: Any, dtypes: list[str], _: Any) -> dict[str, list[float]]:
            asked.append((shapes, dtypes))
            return {dtypes[0]: [1.0, 2.0, 3.0], "float32": [times, 2 * times, 3 * times]}

        monkeypatch.setattr(precision, "measure", measure)
        return asked

    return say


def dtype_of(settings: Any) -> str:
    words = prepare(settings, CONFIG).command
    return next(word.partition("=")[2] for word in words if word.startswith("--dtype="))


@pytest.mark.parametrize(("times", "dtype"), [(0.5, "float32"), (0.95, "auto"), (2.0, "auto")])
def test_the_type_is_the_faster_one_where_it_gains_enough(
    make_settings: Any, matrix_folder: Path, measured: Any, times: float, dtype: str
) -> None:
    measured(times)
    assert dtype_of(make_settings()) == dtype


def test_one_measurement_serves_every_later_start_of_the_same_threads(
    make_settings: Any, matrix_folder: Path, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = measured(0.5)
    assert [dtype_of(make_settings()) for _ in range(3)] == ["float32"] * 3
    assert asked == [([(100, 50)], ["bfloat16", "float32"])]
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    dtype_of(make_settings())
    assert len(asked) == 2


def test_a_measurement_that_cannot_be_read_is_made_again(
    make_settings: Any, matrix_folder: Path, measured: Any, tmp_path: Path
) -> None:
    asked = measured(0.5)
    dtype_of(make_settings())
    (kept,) = (tmp_path / "cache").glob("precision-*.json")
    for damaged in ("", "{}x", "[1]", '{"bfloat16": [1, 2, 3]}', '{"bfloat16": 1, "float32": null}'):
        kept.write_text(damaged)
        assert dtype_of(make_settings()) == "float32"
    assert len(asked) == 6


def test_without_a_measurement_it_is_computed_as_stored(make_settings: Any, matrix_folder: Path) -> None:
    assert dtype_of(make_settings()) == "auto"


def test_memory_that_does_not_suffice_for_32_bits_keeps_16(
    make_settings: Any, matrix_folder: Path, measured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache for one conversation of 8,192 tokens: 180 MiB in 16 bits, twice that in 32."""
    asked = measured(0.5)
    engine = {"kv_cache_gib": 0.25, "max_model_len": 8192}
    assert dtype_of(make_settings(engine=engine)) == "auto"
    assert asked == []
    assert dtype_of(make_settings(engine=engine | {"kv_cache_gib": 0.5})) == "float32"
    # Weights that fit once and not twice.
    monkeypatch.setattr(launcher, "weight_bytes", lambda _p, _s, dtype: 40 * GIB if dtype == "float32" else GIB // 4)
    assert dtype_of(make_settings(engine=engine | {"kv_cache_gib": 0.5})) == "auto"


@pytest.mark.parametrize(
    "engine", [{"dtype": "bfloat16"}, {"dtype": "float16"}, {"extra_arguments": {"quantization": "fp8"}}]
)
def test_a_type_that_is_said_is_not_measured(
    make_settings: Any, matrix_folder: Path, measured: Any, engine: dict[str, Any]
) -> None:
    asked = measured(0.5)
    assert dtype_of(make_settings(engine=engine)) == engine.get("dtype", "auto")
    assert asked == []


def test_the_plan_is_that_of_the_type_that_was_chosen(make_settings: Any, matrix_folder: Path, measured: Any) -> None:
    measured(2.0)
    narrow = prepare(make_settings(), CONFIG).capacity
    measured(0.5)
    for kept in (make_settings().engine.cache_dir).glob("precision-*"):
        kept.unlink()
    wide = prepare(make_settings(), CONFIG).capacity
    assert (wide.weights, wide.kv_per_token) == (2 * narrow.weights, 2 * narrow.kv_per_token)
    assert wide.context == narrow.context


def test_no_number_of_streams_counts_more_for_taking_longer() -> None:
    """By what was seen on a processor without AMX: half as fast for one stream is not made up for by a sixth more."""
    assert not worthwhile([1 / 35, 16 / 218, 32 / 264], [1 / 26, 16 / 221, 32 / 296])
    assert worthwhile([1.0, 1.0, 1.0], [0.9, 0.9, 0.9])
    assert not worthwhile([1.0, 1.0, 1.0], [0.91, 0.91, 0.91])
    assert worthwhile([1.0, 10.0, 100.0], [0.5, 10.0, 110.0])


def test_matrices_are_those_of_floats_as_far_as_they_fit(matrix_folder: Path) -> None:
    assert matrices(matrix_folder, 20_000) == [(100, 50)]
    assert matrices(matrix_folder, 19_999) == []


def test_a_processor_is_named_by_its_instructions_and_not_by_its_clock(tmp_path: Path) -> None:
    def cores(clock: str) -> str:
        core = f"vendor_id\t: GenuineIntel\nmodel name\t: Xeon\ncpu MHz\t\t: {clock}\nflags\t\t: fpu amx_bf16\n"
        return "\n".join(f"processor\t: {number}\n{core}" for number in range(2))

    file = tmp_path / "cpuinfo"
    file.write_text(cores("2100.000"))
    first = processor(file)
    file.write_text(cores("3600.123"))
    assert processor(file) == first == "vendor_id\t: GenuineIntel\nmodel name\t: Xeon\nflags\t\t: fpu amx_bf16"
