"""How much memory there is to plan with: the container's or the machine's, and the GPUs'."""

import shutil
import subprocess
from pathlib import Path

from cloister_common.settings import SettingsError

__all__ = ["cpu_memory_bytes", "gpu_memory_bytes"]

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_MIB = 1024 * 1024
_DRIVER_SECONDS = 30


def cpu_memory_bytes(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> int:
    """What this process may still take: the least of what is available and what its cgroup (v2) leaves.

    Files that the kernel has cached count as used in a cgroup, though it gives them up when memory is wanted. They
    count as free here, as in ``MemAvailable``: else a container that has just read a model had nothing left for it.
    """
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    try:
        limit, used = int((cgroup / "memory.max").read_text()), int((cgroup / "memory.current").read_text())
        counts = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no limit: the files are missing or say "max"
        return available
    cached = int(counts.get("active_file", 0)) + int(counts.get("inactive_file", 0))
    return max(0, min(available, limit - used + cached))


def gpu_memory_bytes() -> list[int]:
    """The memory of each NVIDIA GPU this process sees; none where there is no driver.

    Raises:
        SettingsError: The driver does not answer.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_DRIVER_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise SettingsError(
            f"nvidia-smi has not answered for {_DRIVER_SECONDS} s, so the GPU's driver hangs. Restart the machine, "
            "or set engine.device: cpu."
        ) from error
    return [int(line) * _MIB for line in answer.stdout.split() if line.isdigit()] if answer.returncode == 0 else []
