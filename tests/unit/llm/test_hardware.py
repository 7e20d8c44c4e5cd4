"""What the container leaves: control groups of both versions, as they lie on real machines."""

from pathlib import Path

import pytest
from cloister_llm import hardware
from cloister_llm.cgroups import cores_allowed, memory_left
from cloister_llm.hardware import fast_libraries, own_cores

MIB = 1024 * 1024
NO_LIMIT_V1 = "9223372036854771712\n"
DOCKER_V1 = "12:memory:/docker/abc\n5:cpuset:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"
POD = "kubepods/burstable/pod1/container"


class Machine:
    """A folder that looks like ``/sys/fs/cgroup`` and the process's own ``/proc/self/cgroup``."""

    def __init__(self, folder: Path) -> None:
        self.trees = folder / "cgroup"
        self.own = folder / "self"
        self.trees.mkdir()

    def write(self, group: str, **files: str) -> None:
        place = self.trees / group
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name.replace("__", ".")).write_text(text)

    def memory(self) -> int | None:
        return memory_left(self.trees, self.own)

    def cores(self) -> float | None:
        return cores_allowed(self.trees, self.own)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def v1(limit: int | str, used: int = 0, stat: str = "") -> dict[str, str]:
    return {"memory__limit_in_bytes": str(limit), "memory__usage_in_bytes": str(used), "memory__stat": stat}


def v2(limit: int | str, used: int = 0, stat: str = "") -> dict[str, str]:
    return {"memory__max": f"{limit}\n", "memory__current": f"{used}\n", "memory__stat": stat}


def test_version_1_as_a_container_sees_it(machine: Machine) -> None:
    # The path is the machine's; inside the container its own group is the root of each tree.
    machine.own.write_text(DOCKER_V1)
    stat = f"cache 5\nactive_file 7\ntotal_active_file {20 * MIB}\ntotal_inactive_file {10 * MIB}\n"
    machine.write("memory", **v1(512 * MIB, 100 * MIB, stat))
    machine.write("cpu,cpuacct", cpu__cfs_quota_us="150000\n", cpu__cfs_period_us="100000\n")
    (machine.trees / "cpu").symlink_to("cpu,cpuacct")
    machine.write("cpuset", cpuset__cpus="0-2,7\n")
    assert machine.memory() == 442 * MIB  # cached files are given up when memory is wanted
    assert machine.cores() == 1.5


def test_version_1_without_the_link_to_joined_controllers(machine: Machine) -> None:
    machine.own.write_text(DOCKER_V1)
    machine.write("cpu,cpuacct", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert machine.cores() == 2


def test_version_1_without_limits(machine: Machine) -> None:
    machine.own.write_text(DOCKER_V1.replace("/docker/abc", "/"))
    machine.write("memory", **v1(NO_LIMIT_V1, 100 * MIB))
    machine.write("cpu", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    assert (machine.memory() or 0) > 2**60
    assert machine.cores() is None


def test_version_1_nested_takes_the_tightest_of_all_groups_above(machine: Machine) -> None:
    machine.own.write_text(f"3:memory:/{POD}\n2:cpu:/{POD}\n1:cpuset:/{POD}\n")
    machine.write("memory", **v1(NO_LIMIT_V1))
    machine.write("memory/kubepods/burstable/pod1", **v1(300 * MIB, 50 * MIB))
    machine.write(f"memory/{POD}", **v1(800 * MIB, 20 * MIB))
    machine.write("cpu/kubepods", cpu__cfs_quota_us="400000", cpu__cfs_period_us="100000")
    machine.write(f"cpu/{POD}", cpu__cfs_quota_us="800000", cpu__cfs_period_us="100000")
    machine.write(f"cpuset/{POD}", cpuset__cpus="", cpuset__effective_cpus="0-2")
    assert machine.memory() == 250 * MIB
    assert machine.cores() == 3


def test_version_2_as_a_container_sees_it(machine: Machine) -> None:
    machine.own.write_text("0::/\n")
    stat = f"anon 5\nactive_file {MIB}\ninactive_file {MIB}\n"
    machine.write("", cgroup__controllers="cpu memory", **v2(512 * MIB, 100 * MIB, stat))
    machine.write("", cpu__max="250000 100000\n", cpuset__cpus__effective="0-7\n")
    assert machine.memory() == 414 * MIB
    assert machine.cores() == 2.5


def test_version_2_nested_takes_the_tightest_of_all_groups_above(machine: Machine) -> None:
    machine.own.write_text(f"0::/{POD}\n")
    machine.write("", cgroup__controllers="cpu memory")
    machine.write("kubepods", **v2(100 * MIB, 40 * MIB), cpu__max="max 100000\n")
    machine.write(POD, **v2("max", 40 * MIB), cpuset__cpus__effective="4,6-7\n")
    assert machine.memory() == 60 * MIB
    assert machine.cores() == 3


def test_version_2_with_the_path_of_the_machine(machine: Machine) -> None:
    machine.own.write_text("0::/system.slice/../../elsewhere\n")
    machine.write("", cgroup__controllers="memory", **v2(64 * MIB))
    assert machine.memory() == 64 * MIB


def test_hybrid_reads_the_controllers_where_they_are(machine: Machine) -> None:
    machine.own.write_text(f"7:memory:/{POD}\n0::/{POD}\n")
    machine.write("unified", cgroup__controllers="")
    machine.write(f"unified/{POD}")
    machine.write(f"memory/{POD}", **v1(200 * MIB, 250 * MIB))
    assert machine.memory() == 0


def test_a_machine_without_control_groups_has_no_limit(machine: Machine) -> None:
    assert (machine.memory(), machine.cores()) == (None, None)
    machine.own.write_text("nonsense\n0:\n")
    assert (machine.memory(), machine.cores()) == (None, None)


def test_memory_is_the_least_of_the_machines_and_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    for left, expected in ((None, 50), (30 * 1024, 30), (70 * 1024, 50)):
        monkeypatch.setattr(hardware, "memory_left", lambda left=left: left)
        assert hardware.cpu_memory_bytes(meminfo) == expected * 1024
    meminfo.write_text("MemTotal: 100 kB\nMemFree: 20 kB\nCached: 15 kB\n")
    assert hardware.cpu_memory_bytes(meminfo) == 35 * 1024


def test_threads_fit_the_quota_and_there_is_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    for allowed, threads in ((None, 8), (2.5, 2), (0.5, 1), (64.0, 8)):
        monkeypatch.setattr(hardware, "cores_allowed", lambda allowed=allowed: allowed)
        assert hardware.cpu_cores() == threads


def test_libraries_are_found_where_packages_put_them(tmp_path: Path) -> None:
    assert fast_libraries(tmp_path / "venv", tmp_path / "usr") == []
    openmp = tmp_path / "venv/lib/libiomp5.so"
    allocator = tmp_path / "usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4"
    for file in (openmp, allocator):
        file.parent.mkdir(parents=True)
        file.touch()
    assert fast_libraries(tmp_path / "venv", tmp_path / "usr") == [openmp, allocator]


@pytest.mark.parametrize(
    ("siblings", "bound"),
    [
        ({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, (0, 1)),
        ({0: "0-1", 1: "0-1", 4: "4-5", 5: "4-5"}, (0, 4)),
        ({0: "0", 1: "1", 4: "4", 5: "5"}, (0, 1, 4, 5)),
        ({}, (0, 1, 4, 5)),
    ],
    ids=["far siblings", "near siblings", "no siblings", "a kernel that does not say"],
)
def test_threads_that_would_share_a_cores_arithmetic_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, siblings: dict[int, str], bound: tuple[int, ...]
) -> None:
    for core, text in siblings.items():
        file = tmp_path / f"cpu{core}/topology/thread_siblings_list"
        file.parent.mkdir(parents=True)
        file.write_text(f"{text}\n")
    monkeypatch.setattr("cloister_llm.hardware.os.sched_getaffinity", lambda _: {0, 1, 4, 5})
    monkeypatch.setattr(hardware, "cores_allowed", lambda: None)
    assert own_cores(tmp_path) == bound
