"""Room on the disks that a process writes to: what must stay free there, and whether it still is.

A store that runs into the end of its disk fails in the middle of a write, and other parts of the machine fail with it.
So whoever takes data in looks here first, and refuses while less than a floor is free. What is under way, deletions
and logs have that room to themselves.
"""

from pathlib import Path
from shutil import disk_usage

__all__ = ["DiskFloor"]

_MIB = 1 << 20
_SMALL_DISK_PART = 20
"""On a small disk the floor is this part of it, so that a floor made for large ones does not close it for good."""


class DiskFloor:
    """What must stay free on the disk of one folder.

    Args:
        folder: A folder on that disk.
        min_free_mib: The floor in MiB, or a twentieth of the disk where that is less. 0 switches it off.
    """

    def __init__(self, folder: Path, min_free_mib: int) -> None:
        self.folder = folder
        self._bytes = min_free_mib * _MIB

    def bytes(self) -> int:
        """The floor on this disk.

        Raises:
            OSError: The folder is gone.
        """
        return min(self._bytes, disk_usage(self.folder).total // _SMALL_DISK_PART)

    def missing(self, times: float = 1.0) -> int:
        """How many bytes are missing to ``times`` the floor: 0 while there is room.

        Raises:
            OSError: The folder is gone.
        """
        return max(0, int(times * self.bytes()) - disk_usage(self.folder).free)
