"""What the container leaves this process: memory and cores, by control groups of both versions.

Version 2 has one tree, version 1 one for each controller, and hybrid machines have both. ``/proc/self/cgroup`` says
where in a tree this process is. A container sees its own group as the root of the tree, and may be told the path that
the machine gave it, which is not there: then the groups that are there count. The limits of the groups above hold too.
(Sources: the kernel's ``cgroup-v1/memory.rst``, ``scheduler/sched-bwc.rst`` and ``cgroup-v2.rst``.)
"""

from collections.abc import Iterator
from pathlib import Path

__all__ = ["cores_allowed", "memory_left"]

_TREES = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def memory_left(trees: Path = _TREES, own: Path = _OWN) -> int | None:
    """Bytes this process may still take before its groups' limits, the tightest; None where there is no limit.

    Files that the kernel has cached count as used in a group, though it gives them up when memory is wanted. They
    count as free here: else a container that has just read a model had nothing left for it.
    """
    left: list[int] = []
    for version, folder in _groups("memory", trees, own):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (_number(folder / name) for name in names)
        if limit is not None and used is not None:
            left.append(limit - used + _cached(folder / "memory.stat"))
    return max(0, min(left)) if left else None


def cores_allowed(trees: Path = _TREES, own: Path = _OWN) -> float | None:
    """Cores this process may keep busy, by quota and by set, the tightest; None where there is no limit."""
    allowed: list[float] = []
    for version, folder in _groups("cpu", trees, own):
        quota, period = _quota(folder, version)
        if quota is not None and period:
            allowed.append(quota / period)
    for version, folder in _groups("cpuset", trees, own):
        for name in ("cpuset.cpus.effective",) if version == 2 else ("cpuset.effective_cpus", "cpuset.cpus"):
            cores = _count(_text(folder / name))
            if cores:
                allowed.append(cores)
                break
    return min(allowed) if allowed else None


def _groups(controller: str, trees: Path, own: Path) -> Iterator[tuple[int, Path]]:
    """The groups with a controller that this process is in, from its own to the root, with the tree's version."""
    for line in (_text(own) or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            # On a hybrid machine the tree of version 2 stands beside the others, and has none of their files.
            version, candidates = 2, [trees, trees / "unified"]
        elif controller in controllers.split(","):
            version, candidates = 1, [trees / controller, trees / controllers]
        else:
            continue
        tree = next((candidate for candidate in candidates if _is_tree(candidate, version)), None)
        if tree is None:
            continue
        inside = Path(path.lstrip("/"))
        for group in (inside, *inside.parents):
            if ".." not in group.parts and (tree / group).is_dir():
                yield version, tree / group


def _is_tree(folder: Path, version: int) -> bool:
    return folder.is_dir() if version == 1 else (folder / "cgroup.controllers").is_file()


def _quota(folder: Path, version: int) -> tuple[int | None, int | None]:
    """Microseconds of processor time in each period, and the period's length."""
    if version == 1:
        quota = _number(folder / "cpu.cfs_quota_us")
        return (quota if quota is not None and quota > 0 else None), _number(folder / "cpu.cfs_period_us")
    words = (_text(folder / "cpu.max") or "").split()
    numbers = [int(word) if word.isdecimal() else None for word in words]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (None, None)


def _cached(stat: Path) -> int:
    """Bytes of cached files; ``total_`` counts the groups below too, which version 2 does without saying."""
    counts = dict(line.split(maxsplit=1) for line in (_text(stat) or "").splitlines() if " " in line)
    return sum(int(counts.get(f"total_{name}") or counts.get(name) or 0) for name in ("active_file", "inactive_file"))


def _count(cores: str | None) -> int:
    """How many cores a list like ``0-3,7`` names."""
    count = 0
    for part in (cores or "").strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            count += int(last or first) - int(first) + 1
    return count


def _number(file: Path) -> int | None:
    text = (_text(file) or "").strip()
    try:
        return int(text)
    except ValueError:  # "max", or no such file
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None
