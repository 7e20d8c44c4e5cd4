"""The parts of the suite as processes: side by side, whole output, the right end, and nothing left behind."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lanes import Lanes, Part, table
from tests.support.waiting import wait_until


def part(name: str, code: str, *traits: str) -> Part:
    return Part(name, (sys.executable, "-c", code), frozenset(traits))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def lanes(said: list[str]) -> Lanes:
    return Lanes(2, keep_going=False, say=said.append)


def meeting(folder: Path, mine: str, other: str) -> str:
    """A program that ends well only if the other runs meanwhile."""
    return (
        f"import pathlib, time\npathlib.Path({str(folder / mine)!r}).touch()\nend = time.monotonic() + 60\n"
        f"while not pathlib.Path({str(folder / other)!r}).exists():\n    assert time.monotonic() < end\n"
        f"    time.sleep(0.01)\n"
    )


def test_two_parts_run_at_the_same_time(lanes: Lanes, tmp_path: Path) -> None:
    results = lanes.run([part("a", meeting(tmp_path, "a", "b")), part("b", meeting(tmp_path, "b", "a"))])
    assert [result.code for result in results] == [0, 0]


def test_parts_that_clash_run_one_after_the_other(lanes: Lanes, tmp_path: Path) -> None:
    alone = (
        f"import pathlib, time\nflag = pathlib.Path({str(tmp_path / 'busy')!r})\nflag.mkdir()\ntime.sleep(0.3)\n"
        "flag.rmdir()\n"
    )
    results = lanes.run([part(name, alone, "vllm") for name in ("a", "b", "c")])
    assert [result.code for result in results] == [0] * 3


def test_output_is_shown_whole_when_a_part_ends(lanes: Lanes, said: list[str]) -> None:
    noisy = "import sys\nfor n in range(1000): print('{0}', n, flush=True)\n"
    lanes.run([part("a", noisy.format("a")), part("b", noisy.format("b"))])
    for name in ("a", "b"):
        assert "\n".join(f"{name} {number}" for number in range(1000)) in said


def test_a_failure_is_shown_at_once_and_nothing_begins_after_it(lanes: Lanes, said: list[str], tmp_path: Path) -> None:
    parts = [
        part("fails", "import sys; sys.exit('the reason')"),
        part("runs", meeting(tmp_path, "runs", "goes-on")),
        part("late", "pass"),
    ]

    def let_go_on() -> None:
        wait_until(lambda: any("the reason" in line for line in said), what="the failure is shown")
        (tmp_path / "goes-on").touch()

    watcher = threading.Thread(target=let_go_on)
    watcher.start()
    results = lanes.run(parts)
    watcher.join()
    assert {result.part.name: result.code for result in results} == {"fails": 1, "runs": 0}
    assert "FAILED" in table(results)


def test_with_keep_going_the_rest_is_run(said: list[str]) -> None:
    results = Lanes(1, keep_going=True, say=said.append).run([part("fails", "raise SystemExit(3)"), part("b", "pass")])
    assert [result.code for result in results] == [3, 0]


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[None]:
    """Sends Ctrl-C to this process as soon as the part has said that it runs."""

    def interrupt() -> None:
        wait_until((tmp_path / "up").exists, what="the part runs")
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    yield
    watcher.join()


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_ends_what_a_part_started_in_order(lanes: Lanes, tmp_path: Path) -> None:
    code = (
        "import pathlib, time\ntry:\n"
        f"    pathlib.Path({str(tmp_path / 'up')!r}).touch()\n    time.sleep(600)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(tmp_path / 'down')!r}).touch()\n"
    )
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        lanes.run([part("endless", code)])
    assert (tmp_path / "down").exists()
    assert time.monotonic() - begun < 60
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_table_counts_the_processors_of_all_that_a_part_started(lanes: Lanes) -> None:
    burn = "import time\nwhile time.process_time() < 1.5: pass"
    (result,) = lanes.run([part("a", f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])")])
    assert result.processor >= 1.5
    assert "0:02" in table([result])
