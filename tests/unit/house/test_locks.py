"""The locks: pinned by hash, without an address, and of one mind where they share an environment."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[3] / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.txt"))
SHARED = ("gateway", "embedder", "retriever", "local", "test", "ocr")
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z0-9,._-]+\])?==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((REQUIREMENTS / f"{name}.txt").read_text()))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_holds_no_address_and_no_path(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert " @ " not in text
    assert "file:" not in text


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_pin_has_a_hash(lock: Path) -> None:
    entries = [entry for entry in re.split(r"\n(?=\S)", lock.read_text()) if entry.strip() and entry[0] != "#"]
    assert entries
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_torch_and_its_gpu_libraries_are_left_to_the_machine(lock: Path) -> None:
    assert [name for name in pins(lock.stem) if name == "torch" or name.startswith(("nvidia-", "cuda-"))] == []


def test_locks_of_one_environment_agree() -> None:
    versions: dict[str, set[str]] = {}
    for name in SHARED:
        for package, version in pins(name).items():
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("source", sorted(REQUIREMENTS.glob("*.in")), ids=lambda path: path.name)
def test_a_lock_has_what_its_source_asks_for(source: Path) -> None:
    lines = [line.split("#")[0].strip() for line in source.read_text().splitlines()]
    asked = [Requirement(line) for line in lines if line]
    locked = pins(source.name.split(".")[0])
    unmet = [
        str(requirement)
        for requirement in asked
        if requirement.name != "torch"
        and (requirement.marker is None or requirement.marker.evaluate())
        and not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0.dev0"))
    ]
    assert unmet == []
