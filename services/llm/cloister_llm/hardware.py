"""How much memory there is to plan with: the container's or the machine's, and the GPUs'."""

import shutil
import subprocess
from pathlib import Path

__all__ = ["cpu_memory_bytes", "gpu_memory_bytes"]

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_MIB = 1024 * 1024


def cpu_memory_bytes(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> int:
    """What this process may still take: the least of what is available and what its cgroup (v2) leaves."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if not limit.exists() or (text := limit.read_text().strip()) == "max":
        return available
    return min(available, int(text) - (int(used.read_text()) if used.exists() else 0))


def gpu_memory_bytes() -> list[int]:
    """The memory of each NVIDIA GPU this process sees; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    return [int(line) * _MIB for line in answer.stdout.split() if line.isdigit()] if answer.returncode == 0 else []
