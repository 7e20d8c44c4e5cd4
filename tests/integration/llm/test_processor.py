"""How a real pod uses its processor: in which processes and on which cores it computes, and in which type."""

from pathlib import Path

import pytest
from cloister_llm import precision
from cloister_llm.hardware import own_cores
from cloister_llm.plan.weights import matrices

from tests.support.llm import LlmServer, chat_model_folder, vllm_python

ENGINE = "VLLM::EngineCore"


def allowed(task: Path) -> str:
    """The cores a thread may use, as the kernel writes them."""
    lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
    return lines["Cpus_allowed_list"]


def descendants(pid: int) -> list[Path]:
    """The processes that ``pid`` has started, and theirs."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [Path(f"/proc/{child}") for child in children] + [one for child in children for one in descendants(child)]


def test_a_model_computes_in_the_engines_process_with_a_thread_on_each_core_of_its_own(llm: LlmServer) -> None:
    titles = {process: (process / "cmdline").read_bytes().decode().strip("\0 ") for process in descendants(llm.pid)}
    (engine,) = [process for process, title in titles.items() if title.startswith("VLLM::")]
    assert titles[engine].startswith(ENGINE)
    bound = {allowed(task) for task in (engine / "task").iterdir()}
    assert {str(core) for core in own_cores()} <= bound
    assert allowed(Path(f"/proc/{llm.pid}/task/{llm.pid}")) == allowed(Path("/proc/self"))


def test_the_engine_holds_no_port_of_the_server(llm: LlmServer) -> None:
    """Else the port would stay taken when the server is gone and the engine not yet."""
    listening = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) in {llm.port, llm.metrics_port}
    }
    assert len(listening) == 2
    for process in descendants(llm.pid):
        held = {str(fd.readlink()) for fd in (process / "fd").iterdir() if fd.is_symlink()}
        assert held.isdisjoint(f"socket:[{inode}]" for inode in listening)


def test_a_type_is_measured_with_vllms_own_multiplications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", vllm_python())
    shapes = matrices(chat_model_folder(), 8 << 20)
    assert len(shapes) > 1
    found = precision.measure(shapes, ["bfloat16", "float32"], {"OMP_NUM_THREADS": "1"})
    assert found.keys() == {"bfloat16", "float32"}
    assert all(len(seconds) == 3 and min(seconds) > 0 for seconds in found.values())
