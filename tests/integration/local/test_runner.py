"""The runner with real processes: order, readiness, death, restart, and nothing left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import preflight, process
from deploy.local.faults import LocalFault
from deploy.local.parts import Part
from deploy.local.process import Watchdog, trim_log
from deploy.local.runner import Runner
from deploy.local.settings import REPOSITORY, load_local_settings
from tests.support.waiting import until

UP = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
ONCE = """
import signal, sys
from pathlib import Path
marker = Path(sys.argv[1])
if marker.exists():
    sys.exit("There is no room.")
marker.touch()
print("up", flush=True)
signal.pause()
"""
ORDERLY = """
import signal, sys
signal.signal(15, lambda *_: sys.exit("ended in order"))
print("up", flush=True)
signal.pause()
"""
DEADLINE_SECONDS = 60.0


@pytest.fixture
def watchdog(tmp_path: Path) -> Iterator[Watchdog]:
    with preflight.lock(tmp_path) as held:
        dog = Watchdog(held)
        yield dog
        dog.close()


class Run:
    """A runner over small parts, with what it said and when it was ready."""

    def __init__(self, folder: Path, watchdog: Watchdog, parts: Sequence[Part], settings: str = "") -> None:
        override = folder / "mine.yaml"
        override.write_text(settings or "restart: {pause_seconds: 0.0}\n")
        self.said: list[str] = []
        self.ready = asyncio.Event()
        self.record_path = folder / "run.json"
        self.runner = Runner(
            load_local_settings(override),
            parts,
            record=self.record_path,
            watchdog=watchdog,
            when_ready=self._when_ready,
            say=self.said.append,
        )

    async def _when_ready(self) -> None:
        self.ready.set()

    def record(self) -> dict[str, dict[str, int]]:
        parts: dict[str, dict[str, int]] = json.loads(self.record_path.read_text())["parts"]
        return parts

    def pid(self, name: str) -> int:
        return self.record()[name]["pid"]


def part(folder: Path, name: str, code: str = UP, needs: Sequence[str] = ()) -> Part:
    log = folder / f"{name}.log"

    async def probe() -> str | None:
        return None if log.exists() and log.read_text().rstrip().endswith("up") else "not up"

    command = [sys.executable, "-c", code, str(folder / f"{name}.started")]
    return Part(name, "a part", command, needs, 1, log, dict(os.environ), probe)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_parts_start_in_order_and_a_signal_ends_them(tmp_path: Path, watchdog: Watchdog) -> None:
    run = Run(tmp_path, watchdog, [part(tmp_path, "store"), part(tmp_path, "door", needs=["store"])])
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    await until(lambda: json.loads(run.record_path.read_text())["state"] == "ready", seconds=DEADLINE_SECONDS)
    pids = [run.pid("store"), run.pid("door")]
    assert [line.split()[0] for line in run.said] == ["store", "door"]
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)
    assert not any(alive(pid) for pid in pids)
    assert not run.record_path.exists()


async def test_a_part_that_ends_while_starting_ends_the_run_with_its_words(tmp_path: Path, watchdog: Watchdog) -> None:
    broken = part(tmp_path, "broken", "import sys; sys.exit('The model folder is empty.')")
    run = Run(tmp_path, watchdog, [part(tmp_path, "store"), broken])
    with pytest.raises(LocalFault, match=r"broken ended .* while starting: The model folder is empty\. Its"):
        await run.runner.run()
    assert not run.ready.is_set()
    assert run.said[-1] == "stopped"


async def test_a_part_that_is_never_ready_ends_the_run_with_the_reason(tmp_path: Path, watchdog: Watchdog) -> None:
    silent = part(tmp_path, "silent", "import signal; signal.pause()")
    run = Run(tmp_path, watchdog, [silent], settings="start_seconds: 0.5\n")
    with pytest.raises(LocalFault, match=r"silent was not ready after 0\.5 s \(not up\)"):
        await run.runner.run()


async def test_a_part_that_dies_is_started_again(tmp_path: Path, watchdog: Watchdog) -> None:
    run = Run(tmp_path, watchdog, [part(tmp_path, "store")])
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    first = run.pid("store")
    os.kill(first, signal.SIGKILL)
    await until(lambda: run.record()["store"]["ready"] == 1 and run.pid("store") != first, seconds=DEADLINE_SECONDS)
    assert any("died of SIGKILL; starting it again" in line for line in run.said)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)


async def test_a_part_that_keeps_dying_is_started_again_ever_later_and_the_others_run_on(
    tmp_path: Path, watchdog: Watchdog
) -> None:
    parts = [part(tmp_path, "store", ONCE), part(tmp_path, "door")]
    run = Run(tmp_path, watchdog, parts, settings="restart: {pause_seconds: 0.01, longest_pause_seconds: 0.08}\n")
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    door, store = run.pid("door"), run.pid("store")
    (tmp_path / "store.log").write_text("")
    os.kill(store, signal.SIGKILL)
    await until(lambda: any("after 6 deaths in ten minutes" in line for line in run.said), seconds=DEADLINE_SECONDS)
    deaths = [line for line in run.said if line.startswith("store ") and "starting it again" in line]
    assert "died of SIGKILL; starting it again." in deaths[0]
    assert "while starting: There is no room; starting it again in 0.02 s, after 2 deaths" in deaths[1]
    assert [line.split(" in ")[1].split(",")[0] for line in deaths[1:6]] == [
        *("0.02 s", "0.04 s", "0.08 s", "0.08 s", "0.08 s")
    ]
    assert alive(door)
    assert run.pid("door") == door
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)


async def test_a_part_that_cannot_be_started_again_for_now_is_tried_again(tmp_path: Path, watchdog: Watchdog) -> None:
    program = tmp_path / "program"
    program.symlink_to(sys.executable)
    store = part(tmp_path, "store")
    run = Run(tmp_path, watchdog, [replace(store, command=[str(program), *store.command[1:]])])
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    first = run.pid("store")
    program.unlink()
    os.kill(first, signal.SIGKILL)
    await until(
        lambda: any("store could not be started (No such file or directory)" in line for line in run.said),
        seconds=DEADLINE_SECONDS,
    )
    program.symlink_to(sys.executable)
    await until(lambda: run.record()["store"]["ready"] == 1 and run.pid("store") != first, seconds=DEADLINE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)


async def test_a_record_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.runner._TRIM_SECONDS", 0.02)
    run = Run(tmp_path, watchdog, [part(tmp_path, "store")])
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    await until(lambda: run.record()["store"]["ready"] == 1, seconds=DEADLINE_SECONDS)
    (tmp_path / "run.part").mkdir()
    first = run.pid("store")
    os.kill(first, signal.SIGKILL)
    await until(lambda: sum("store is ready" in line for line in run.said) == 2, seconds=DEADLINE_SECONDS)
    assert run.pid("store") == first  # as it was recorded last
    (tmp_path / "run.part").rmdir()
    await until(lambda: run.pid("store") != first, seconds=DEADLINE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)


async def test_a_part_stands_back_as_it_should_in_its_session_too(tmp_path: Path, watchdog: Watchdog) -> None:
    run = Run(tmp_path, watchdog, [part(tmp_path, "store"), replace(part(tmp_path, "model"), nice=10)])
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, run.pid("store")) == own
    assert os.getpriority(os.PRIO_PROCESS, run.pid("model")) == min(19, own + 10)
    group = Path(f"/proc/{run.pid('model')}/autogroup")
    assert not group.exists() or "nice 10" in group.read_text()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)


async def test_a_part_that_keeps_dying_ends_the_run_where_there_is_a_limit(tmp_path: Path, watchdog: Watchdog) -> None:
    run = Run(tmp_path, watchdog, [part(tmp_path, "store")], settings="restart: {limit: 0}\n")
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    os.kill(run.pid("store"), signal.SIGKILL)
    with pytest.raises(
        LocalFault, match=r"store died of SIGKILL, more often than restart.limit .* Its log: .*store\.log"
    ):
        await asyncio.wait_for(running, DEADLINE_SECONDS)


async def test_a_part_that_ignores_sigterm_is_killed(tmp_path: Path, watchdog: Watchdog) -> None:
    run = Run(tmp_path, watchdog, [part(tmp_path, "store", STUBBORN)], settings="stop_seconds: 0.3\n")
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    pid = run.pid("store")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)
    assert not alive(pid)


async def test_a_second_signal_ends_at_once_what_takes_its_time(
    tmp_path: Path, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.runner._ONE_SIGNAL_SECONDS", 0.0)
    run = Run(tmp_path, watchdog, [part(tmp_path, "store", STUBBORN)], settings="stop_seconds: 600\n")
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    pid = run.pid("store")
    os.kill(os.getpid(), signal.SIGINT)
    await until(lambda: any("stopping" in said for said in run.said), seconds=DEADLINE_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(running, DEADLINE_SECONDS)
    assert not alive(pid)


async def test_a_signal_that_make_passes_on_once_more_counts_once(
    tmp_path: Path, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.runner._ONE_SIGNAL_SECONDS", DEADLINE_SECONDS)
    run = Run(tmp_path, watchdog, [part(tmp_path, "store", ORDERLY)])
    running = asyncio.create_task(run.runner.run())
    await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: any("stopping" in said for said in run.said), seconds=DEADLINE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, DEADLINE_SECONDS)
    assert (tmp_path / "store.log").read_text() == "up\nended in order\n"


async def test_the_words_of_an_earlier_run_are_not_taken_for_the_reason(tmp_path: Path, watchdog: Watchdog) -> None:
    (tmp_path / "store.log").write_text("The model folder is empty.\n")
    run = Run(tmp_path, watchdog, [part(tmp_path, "store", "import os; os.kill(os.getpid(), 9)")])
    with pytest.raises(LocalFault, match=r"^store died of SIGKILL while starting\. Its log"):
        await run.runner.run()


async def test_without_its_watchdog_a_run_goes_on_and_ends_in_order(tmp_path: Path) -> None:
    with preflight.lock(tmp_path) as held:
        dog = Watchdog(held)
        run = Run(tmp_path, dog, [part(tmp_path, "store"), part(tmp_path, "door", needs=["store"])])
        running = asyncio.create_task(run.runner.run())
        await asyncio.wait_for(run.ready.wait(), DEADLINE_SECONDS)
        dog._process.kill()
        dog._process.wait()
        first = run.pid("store")
        os.kill(first, signal.SIGKILL)
        await until(lambda: run.record()["store"]["ready"] == 1 and run.pid("store") != first, seconds=DEADLINE_SECONDS)
        pids = [run.pid("store"), run.pid("door")]
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, DEADLINE_SECONDS)
        assert not any(alive(pid) for pid in pids)
        dog.close()


def test_a_large_log_is_moved_aside_under_the_process_that_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_LARGEST_LOG_BYTES", 10)
    log = tmp_path / "store.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"short")
        trim_log(log)
        assert log.read_bytes() == b"short"
        writer.write(b" and now long")
        trim_log(log)
        writer.write(b"after")
    assert log.read_bytes() == b"after"
    assert (tmp_path / "store.log.1").read_bytes() == b"short and now long"
    trim_log(tmp_path / "none.log")


KILLED_RUNNER = """
import asyncio, sys
from pathlib import Path
from deploy.local import preflight, process
from deploy.local.process import Process, Watchdog

async def run(folder):
    with preflight.lock(folder) as held:
        watchdog = Watchdog(held)
        shell = ["sh", "-c", "sleep 600 & echo $!; wait"]
        path = {"PATH": "/bin:/usr/bin"}
        process = await Process.start(shell, environment=path, log=folder / "log", watchdog=watchdog)
        print(process.pid, flush=True)
        await process.wait()

asyncio.run(run(Path(sys.argv[1])))
"""


async def test_a_killed_runner_leaves_no_process_and_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_RUNNER, str(tmp_path)]
    runner = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    child = int(runner.stdout.readline())
    await until(lambda: (tmp_path / "log").read_text().strip() != "", seconds=DEADLINE_SECONDS)
    grandchild = int((tmp_path / "log").read_text())
    assert alive(grandchild)
    runner.kill()
    runner.wait()
    runner.stdout.close()
    await until(lambda: not alive(child) and not alive(grandchild), seconds=DEADLINE_SECONDS)
    preflight.lock(tmp_path).close()
