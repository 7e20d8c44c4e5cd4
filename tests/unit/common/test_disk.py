"""The floor of free space: an absolute one, which on a small disk is a part of it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from cloister_common import disk
from cloister_common.disk import DiskFloor

MIB = 1 << 20


@pytest.mark.parametrize(
    ("total", "free", "missing"),
    [
        (100_000, 257, 0),
        (100_000, 256, 0),
        (100_000, 200, 56),
        (1_000, 51, 0),
        (1_000, 20, 30),
    ],
)
def test_what_is_missing_to_the_floor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, total: int, free: int, missing: int
) -> None:
    monkeypatch.setattr(disk, "disk_usage", lambda _: SimpleNamespace(total=total * MIB, free=free * MIB))
    assert DiskFloor(tmp_path, 256).missing() == missing * MIB
    assert DiskFloor(tmp_path, 0).missing() == 0


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        DiskFloor(tmp_path / "gone", 256).missing()
