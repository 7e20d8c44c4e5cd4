"""What `make test` runs: every folder of tests, and nothing beside what it would disturb."""

from pathlib import Path

import pytest

from tests.support.lanes import Part
from tests.support.suite import check, suite

TESTS = Path(__file__).parents[2]
MAKEFILE = (TESTS.parent / "Makefile").read_text()


@pytest.mark.parametrize("beside", [None, "images"])
def test_every_folder_of_tests_is_run_once(beside: str | None) -> None:
    commands = [" ".join(part.command) for part in suite(beside)]
    wanted = {f"make {kind}" for kind in ("unit", "chart", "e2e", "clients")} | {
        f"make service OF={path.name}" for kind in ("integration", "contract") for path in (TESTS / kind).glob("*/")
    }
    assert {command for command in commands if not command.endswith("__pycache__")} >= {
        command for command in wanted if not command.endswith("__pycache__")
    }
    assert len(commands) == len(set(commands))
    assert {part.name for part in check()} <= {part.name for part in suite(beside)}


def test_what_is_not_named_is_taken_for_one_that_waits_for_the_disk() -> None:
    (gateway,) = (part for part in suite() if part.name == "service-gateway")
    assert gateway.clashes_with(Part("images", (), frozenset({"disk"})))


def test_two_models_never_run_at_the_same_time() -> None:
    models = [part for part in suite() if "vllm" in part.traits]
    assert {part.name for part in models} == {"e2e", "clients", "service-llm"}
    assert all(one.clashes_with(other) for one in models for other in models)


def test_what_fills_the_disk_comes_after_what_waits_for_it_and_beside_what_computes() -> None:
    parts = suite("images")
    disk = next(place for place, part in enumerate(parts) if part.name == "images")
    assert all("fsync" not in part.traits for part in parts[disk:])
    assert len(parts[disk:]) > 3


def test_every_part_is_a_target_of_make() -> None:
    for part in suite():
        assert f"\n{part.command[1]}: " in MAKEFILE
