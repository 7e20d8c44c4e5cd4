"""What the machine lacks is installed where that is allowed, and named where it is not; the rest is found out later."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from deploy.local.settings import REPOSITORY
from tests.support.waiting import wait_until

DEADLINE_SECONDS = 60.0
WITHOUT_LIBNUMA = {"ldconfig": "true", "id": "echo 1000"}
MAY_INSTALL = WITHOUT_LIBNUMA | {"sudo": 'shift; exec "$@"'}


def system(folder: Path, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the script with ``programs`` (name and shell code) before the machine's own."""
    for name, code in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{code}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    script = str(REPOSITORY / "requirements/system.sh")
    return subprocess.run([script], env={"PATH": path}, capture_output=True, text=True, check=False)


def test_what_is_missing_is_installed_without_starting_a_server(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    done = system(tmp_path, MAY_INSTALL | {"apt-get": f'echo "$RUNLEVEL $DEBIAN_FRONTEND $*" >> {calls}'})
    assert done.returncode == 0
    update, install = calls.read_text().splitlines()
    assert update == "1 noninteractive update -qq"
    assert install.startswith("1 noninteractive install")
    assert "libnuma1" in install


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [
        (MAY_INSTALL | {"apt-get": "exit 100"}, r"cloister: apt-get could not install "),
        (WITHOUT_LIBNUMA | {"sudo": "exit 1", "apt-get": "exit 1"}, "This user may not install it; run: sudo apt-get"),
    ],
    ids=["apt-get fails", "no right"],
)
def test_what_cannot_be_installed_is_named_and_the_rest_goes_on(
    tmp_path: Path, programs: dict[str, str], sentence: str
) -> None:
    done = system(tmp_path, programs)
    assert done.returncode == 0
    assert sentence in done.stderr
    assert "libnuma1" in done.stderr


def test_an_installation_that_is_interrupted_leaves_no_pip_behind(tmp_path: Path) -> None:
    pid_file, python = tmp_path / "pid", tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho $$ > {pid_file}.part; mv {pid_file}.part {pid_file}; exec sleep 600\n")
    python.chmod(0o755)
    command = ["requirements/install.sh", str(tmp_path / "venv"), "requirements/build.txt"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, start_new_session=True) as script:
        wait_until(pid_file.exists)
        os.killpg(script.pid, signal.SIGINT)
        assert script.wait(DEADLINE_SECONDS) != 0
    wait_until(lambda: not Path(f"/proc/{pid_file.read_text().strip()}").exists())
