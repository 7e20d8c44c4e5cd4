"""The type a model computes in is the fastest that is worth its digits, and is measured once for a machine."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cloister_embedder.models.precision import (
    Measured,
    Measurements,
    Precision,
    batch_tokens_within,
    choose_precision,
    fastest,
    machine_key,
    possible_precisions,
    worthwhile,
)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        # AMX; VNNI without AMX, where bfloat16 is slower than float32; neither; gains that are not worth it.
        ({"float32": 1.0, "bfloat16": 0.2, "int8": 0.3}, "bfloat16"),
        ({"float32": 1.0, "bfloat16": 1.6, "int8": 0.5}, "int8"),
        ({"float32": 1.0, "bfloat16": 5.0}, "float32"),
        ({"float32": 1.0, "bfloat16": 0.95, "int8": 0.9}, "float32"),
        ({"float32": 1.0, "bfloat16": 0.5, "int8": 0.45}, "bfloat16"),
    ],
)
def test_less_exact_type_must_be_faster_by_enough(seconds: dict[Precision, float], chosen: str) -> None:
    assert worthwhile(seconds) == chosen


def test_every_type_has_its_turns_and_one_is_chosen() -> None:
    turns: list[str] = []
    names: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
    works: dict[Precision, Callable[[], object]] = {name: partial(turns.append, name) for name in names}
    assert fastest(works) in works
    assert turns[:3] == list(works)
    assert {turns.count(name) for name in works} == {len(turns) // 3}


def test_choice_on_this_processor_is_possible_here() -> None:
    assert choose_precision(64, "cpu") in possible_precisions("cpu")


@pytest.mark.parametrize(("seconds", "tokens"), [(0.15, 1024), (0.04, 2048), (0.001, 8192), (9.0, 1024)])
def test_batch_is_as_large_as_a_query_may_wait_for(seconds: float, tokens: int) -> None:
    assert batch_tokens_within(1024, seconds) == tokens


def test_measurement_is_kept_for_the_next_start(tmp_path: Path) -> None:
    measurements = Measurements(tmp_path / "new" / "folder")
    assert measurements.find("key") is None
    measurements.keep("key", Measured("int8", 2048))
    assert Measurements(tmp_path / "new" / "folder").find("key") == Measured("int8", 2048)
    assert measurements.find("other") is None


def test_measurement_that_cannot_be_read_or_kept_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text('{"precision": ')
    assert Measurements(tmp_path).find("key") is None
    (tmp_path / "file").write_text("")
    nowhere = Measurements(tmp_path / "file")
    nowhere.keep("key", Measured("float32", 1024))
    assert nowhere.find("key") is None
    assert Measurements(None).find("key") is None


def test_another_model_or_number_of_threads_is_measured_anew() -> None:
    one = machine_key(b"{}", device="cpu", threads=2)
    assert one == machine_key(b"{}", device="cpu", threads=2)
    assert len({one, machine_key(b"{ }", device="cpu", threads=2), machine_key(b"{}", device="cpu", threads=4)}) == 3
