"""Threads for one forward pass follow what the container may use, not what the node has."""

import os
from pathlib import Path

import pytest
from cloister_embedder.models.compute import available_cores
from cloister_embedder.settings import ComputeSettings

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", CORES), ("100000 100000", 1), ("20000 100000", 1), ("6400000 100000", min(CORES, 64)), ("", CORES)],
)
def test_quota_of_the_container_bounds_the_threads(tmp_path: Path, quota: str, expected: int) -> None:
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text(quota)
    assert available_cores(ComputeSettings(), cpu_max) == expected


def test_machine_without_cgroups_uses_its_cores(tmp_path: Path) -> None:
    assert available_cores(ComputeSettings(), tmp_path / "missing") == CORES


def test_setting_goes_before_what_is_found(tmp_path: Path) -> None:
    assert available_cores(ComputeSettings(threads=7), tmp_path / "missing") == 7
