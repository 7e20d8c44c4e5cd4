"""Disks of a test's own, which only root may mount: a small one to be filled, and one whose power is cut."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["PoweredDisk", "fill", "small_disk"]


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


class PoweredDisk:
    """A disk whose power a test cuts: what was not synced by then is gone, as the real kernel has it.

    It is an ext4 in a file, mounted over a loop device. What is written to it stays in the kernel's memory until
    somebody syncs it (its own commit comes every five minutes); only then it reaches the file. So a copy of that file
    is what a real disk has when the power goes.

    Args:
        folder: Where the file lies, and the disk in its folder ``mounted``.
        mib: Its size in MiB.
    """

    def __init__(self, folder: Path, mib: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._image = folder / "image"
        self.mounted = folder / "mounted"
        self.mounted.mkdir()
        with self._image.open("wb") as image:
            image.truncate(mib << 20)
        _must("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def cut_power(self) -> None:
        """Loses what was not synced. Whoever writes to it must have been killed, and finds it mounted again."""
        after = self._image.with_suffix(".after")
        _must("cp", "--sparse=always", str(self._image), str(after))
        self.unmount()
        after.rename(self._image)
        self._mount()

    def unmount(self) -> None:
        """Ends it."""
        _must("umount", "--lazy", str(self.mounted))

    def _mount(self) -> None:
        _must("mount", "-o", "loop,commit=300", str(self._image), str(self.mounted))


def _must(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{command[0]} failed; run these tests as root. {done.stderr.strip()}")
