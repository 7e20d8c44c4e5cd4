"""What there is to plan with: the container's or the machine's memory and cores, and the GPUs' memory."""

import os
import shutil
import subprocess
from pathlib import Path

from cloister_common.settings import SettingsError

from cloister_llm.cgroups import cores_allowed, memory_left

__all__ = ["cpu_cores", "cpu_memory_bytes", "gpu_memory_bytes"]

_MEMINFO = Path("/proc/meminfo")
_MIB = 1024 * 1024
_DRIVER_SECONDS = 30


def cpu_memory_bytes(meminfo: Path = _MEMINFO) -> int:
    """What this process may still take: the least of what the machine has and what its control groups leave."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    # Kernels before 3.14 do not say what is available.
    names = ("MemAvailable",) if "MemAvailable" in fields else ("MemFree", "Cached")
    available = sum(int(fields[name].split()[0]) for name in names) * 1024
    left = memory_left()
    return available if left is None else min(available, left)


def cpu_cores() -> int:
    """How many threads can compute at once: the cores this process may use, and its control groups' quota of them."""
    cores = len(os.sched_getaffinity(0))
    allowed = cores_allowed()
    return cores if allowed is None else max(1, min(cores, int(allowed)))


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
