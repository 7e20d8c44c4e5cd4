"""What there is to plan and run with: the container's or the machine's memory and cores, libraries, GPUs' memory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cloister_common.settings import SettingsError

from cloister_llm.cgroups import cores_allowed, memory_left

__all__ = ["cpu_cores", "cpu_memory_bytes", "fast_libraries", "gpu_memory_bytes", "own_cores", "processor"]

_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
_TOPOLOGY = Path("/sys/devices/system/cpu")
_MIB = 1024 * 1024
_DRIVER_SECONDS = 30

_OPENMP = ("lib/libiomp5.so",)
"""Intel's OpenMP, of the environment's pinned packages (``intel-openmp``)."""
_ALLOCATOR = ("lib/*/libtcmalloc_minimal.so.4", "lib64/libtcmalloc_minimal.so.4")
"""Google's allocator, as Debian and others install it (``libtcmalloc-minimal4``)."""


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


def own_cores(topology: Path = _TOPOLOGY) -> tuple[int, ...]:
    """Numbers of the cores to bind a thread to each; none where a quota leaves fewer than this process may use.

    Under such a quota others use the same cores, and every pod that bound its few threads would take the same few.
    Where Kubernetes gives a pod whole cores (the kubelet's static policy), the quota is as many as it may use.
    """
    cores = os.sched_getaffinity(0)
    return tuple(sorted(_one_of_each(cores, topology))) if len(cores) == cpu_cores() else ()


def _one_of_each(cores: set[int], topology: Path) -> set[int]:
    """Without those that share their arithmetic with another of them (SMT): its threads would wait for each other."""
    chosen: set[int] = set()
    for core in sorted(cores):
        try:
            siblings = (topology / f"cpu{core}/topology/thread_siblings_list").read_text()
        except OSError:
            siblings = ""  # a kernel that does not say
        if chosen.isdisjoint(_numbers(siblings)):
            chosen.add(core)
    return chosen


def _numbers(ranges: str) -> set[int]:
    """The numbers of a list such as ``0-1,64`` (the kernel's "cpulist")."""
    bounds = [part.partition("-") for part in ranges.strip().split(",") if part]
    return {number for first, _, last in bounds for number in range(int(first), int(last or first) + 1)}


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """What the processor says of itself and its instructions; the same for all cores and at every start."""
    first, _, _ = cpuinfo.read_text().partition("\n\n")
    # The rest are numbers of this one core, and its clock.
    kept = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU")
    return "\n".join(line for line in first.splitlines() if line.startswith(kept))


def fast_libraries(environment: Path | None = None, system: Path = Path("/usr")) -> list[Path]:
    """Libraries that vLLM's manual for CPUs wants loaded before its own, as far as they are there.

    Args:
        environment: Of the interpreter; left out, this process's.
        system: Where the system keeps its own.
    """
    places = [(environment or Path(sys.prefix), _OPENMP), (system, _ALLOCATOR)]
    found = [next((file for name in names for file in sorted(place.glob(name))), None) for place, names in places]
    return [file for file in found if file is not None]


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
