"""The catalogue of accelerators, the roofline, and the command that compares."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloister_llm.__main__ import main
from cloister_llm.plan import Load, plan_capacity, read_shape
from cloister_llm.plan.accelerators import catalogue
from cloister_llm.plan.capacity import GIB
from cloister_llm.plan.comparison import Wishes, compare, sizes
from cloister_llm.plan.speed import Habits, Speed, estimate
from cloister_llm.plan.weights import weights_by_name

from tests.unit.llm import published
from tests.unit.llm.test_shape import LLAMA_3_8B, MIXTRAL_8X7B, QWEN_25_7B

H100, T4 = catalogue()["h100"], catalogue()["t4"]


def speed_of(config: dict[str, Any], *, devices: int = 1, accelerator: Any = H100) -> Speed:
    """The speed of a model on so many accelerators."""
    shape = read_shape(config)
    load = Load("gpu", int(accelerator.usable_gib * GIB), devices=devices)
    return Speed(shape, weights_by_name(shape), load, accelerator)


def test_slots_for_adapters_stand_in_the_settings_that_follow(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--gpu-memory", "80", "--lora-slots", "4", "--lora-rank", "32"]
    assert main(["plan", "--model", str(folder), *options]) == 0
    settings, chart = capsys.readouterr().out.split("# The same in the values.yaml of the chart:")
    assert yaml.safe_load(settings)["lora"] == {"folder": "adapters", "slots": 4, "rank": 32}
    (entry,) = yaml.safe_load(chart)["llm"]["models"].values()
    assert entry["adapters"] == {"slots": 4, "rank": 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder with nothing but Llama 3's config.json."""
    path = tmp_path / "Llama-3-8B"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(LLAMA_3_8B))
    return path


def planned(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Any:
    """What ``plan --json`` says."""
    assert main(["plan", "--model", str(folder), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_accelerator_has_its_figures_and_their_source() -> None:
    known = catalogue()
    assert {"l4", "l40s", "a10", "a100-40", "a100-80", "h100-pcie", "h100", "h200", "b200", "rtx-6000-ada"} <= set(
        known
    )
    assert {"rtx-pro-6000", "mi300x", "mi325x", "mi355x", "gaudi3"} <= set(known)
    for accelerator in known.values():
        assert "https://" in accelerator.source
        assert 0.85 * accelerator.memory_gb < accelerator.usable_gib <= accelerator.memory_gb
        assert accelerator.tflops["fp16"] <= accelerator.tflops.get("fp8", accelerator.tflops["fp16"])
        assert accelerator.tflops["fp16"] < 2600  # dense: the sparse figures of the newest are above


def test_a_type_without_a_matrix_unit_is_computed_as_the_next_larger() -> None:
    assert catalogue()["a100-80"].matrix_tflops("fp8") == 312
    assert H100.matrix_tflops("fp4") == H100.matrix_tflops("fp8") == 1979
    assert catalogue()["b200"].matrix_tflops("fp4") == 9000


def test_one_stream_is_bound_by_reading_the_weights_and_its_cache() -> None:
    speed = speed_of(LLAMA_3_8B)
    embeddings = 128256 * 4096
    read = (8_030_261_248 - embeddings) * 2 + 8192 * 131072  # a row of the embeddings; the whole head
    assert speed.step_seconds(1, 8192, limit=True) == pytest.approx(read / 3350e9, rel=1e-6)


def test_two_gpus_read_half_each() -> None:
    one, two = speed_of(LLAMA_3_8B), speed_of(LLAMA_3_8B, devices=2)
    assert two.step_seconds(1, 1024, limit=True) == pytest.approx(one.step_seconds(1, 1024, limit=True) / 2)
    assert two.step_seconds(1, 1024) > one.step_seconds(1, 1024) / 2  # they tell each other


def test_a_mixture_reads_the_experts_that_any_stream_chose() -> None:
    speed = speed_of(MIXTRAL_8X7B, accelerator=catalogue()["h200"])
    experts = 32 * 8 * 3 * 4096 * 14336 * 2
    other = speed.weights_read(1) - experts * 2 / 8
    assert speed.weights_read(2) == pytest.approx(other + experts * (1 - (6 / 8) ** 2))
    assert speed.weights_read(100) == pytest.approx(other + experts)


def test_a_prompt_is_bound_by_multiplying() -> None:
    speed = speed_of(LLAMA_3_8B)
    multiplied = 2 * (8_030_261_248 - 128256 * 4096)
    assert speed.prompt_seconds(8192) > 8192 * multiplied / 989e12
    assert speed.prompt_seconds(8192) < 8192 * multiplied / 989e12 * 3


def test_states_are_read_and_written_with_every_token() -> None:
    speed = speed_of(published.JAMBA, accelerator=catalogue()["b200"])
    shape = read_shape(published.JAMBA)
    read = shape.kv_bytes(4096, kv_dtype_bytes=2) + 2 * shape.state_bytes(dtype_bytes=2)
    assert speed.conversation_read(4096) == read


def test_people_who_think_longer_are_more_and_those_who_want_it_faster_are_fewer() -> None:
    speed = speed_of(LLAMA_3_8B)

    def users(**habits: float) -> int:
        told = estimate(speed, context=4096, conversations=60, stages=1, habits=Habits(**habits))  # type: ignore[arg-type]
        return told.users

    usual = users()
    assert users(think_seconds=120) > usual > users(least_rate=60) > 0
    assert users(least_rate=100_000) == 0


def test_heads_are_not_split_over_gpus() -> None:
    assert [pair for pair in sizes(read_shape(QWEN_25_7B), 8) if pair[0] == 8] == []  # 28 heads
    assert (4, 2) in list(sizes(read_shape(QWEN_25_7B), 8))


def test_accelerators_are_compared_in_the_fewest_pieces_that_hold_the_model() -> None:
    shape = read_shape(published.LLAMA_31_70B)
    wishes = Wishes(Load("gpu", 0, context=8192, conversations=4), Habits())
    found = compare(shape, shape.parameters * 2, weights_by_name(shape), [T4, H100, catalogue()["mi300x"]], wishes)
    small, large, largest = found
    assert small.capacity is None
    assert "does not fit" in small.why
    assert large.load is not None
    assert (large.load.devices, large.load.stages) == (4, 1)
    assert largest.load is not None
    assert largest.load.devices == 1
    for candidate in (large, largest):
        assert candidate.load is not None
        assert candidate.capacity == plan_capacity(shape, shape.parameters * 2, candidate.load)
        assert candidate.capacity.conversations >= 4


def test_plan_compares_all_accelerators_unless_told_which(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = planned(folder, capsys)
    assert [plan["accelerator"]["key"] for plan in told["plans"]] == list(catalogue())
    assert told["model"]["parameters"] == 8_030_261_248
    t4 = told["plans"][0]
    assert t4["tensor_parallel"] == 2
    assert t4["values"]["llm"]["models"]["llama-3-8b"]["gpus"] == 2
    assert main(["plan", "--model", str(folder), "--compare", "l4,h100"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("l4", "h100", "a10"))] == ["l4", "h100"]
    assert "estimate" in text


def test_plan_of_one_accelerator_prints_settings_and_the_charts_values(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--model", str(folder), "--accelerator", "l4", "--conversations", "2"]) == 0
    text = capsys.readouterr().out
    block = yaml.safe_load(text)
    assert block["engine"]["tensor_parallel"] == 1
    entry = block["llm"]["models"]["llama-3-8b"]
    assert entry["contextTokens"] == block["engine"]["max_model_len"] == 8192
    assert entry["gpus"] == 1
    assert entry["config"]["engine"]["max_num_seqs"] == block["engine"]["max_num_seqs"]
    assert "# estimate" in text


def test_plan_of_an_amount_of_memory_says_it_as_json_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plan,) = planned(folder, capsys, "--gpu-memory", "24")["plans"]
    assert plan["capacity"]["context"] == 8192
    assert plan["accelerator"] is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--compare", "h100,abacus"], "There is no accelerator 'abacus'"),
        (["--accelerator", "t4", "--most-gpus", "1"], "does not fit on t4"),
        (["--gpu-memory", "-1"], "--gpu-memory must be more than 0"),
        (["--utilization", "1.5"], "--utilization"),
        (["--think", "-1"], "--think"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main(["plan", "--model", str(folder), *options]) == 2
    assert sentence in capsys.readouterr().err
