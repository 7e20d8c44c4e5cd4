"""A small disk of a test's own, to be filled: a filesystem in memory, which only root may mount."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["fill", "small_disk"]


@contextlib.contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """``folder``, made if it is missing, as a disk of ``mib`` MiB."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "cloister-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:  # no skip: nobody would notice that this is not tested
        pytest.fail(f"A small disk cannot be mounted. Run these tests as root. {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Writes until the disk takes no byte more, as fast as it goes."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as writer:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    writer.write(b"0" * size)
    assert os.statvfs(file).f_bavail == 0
