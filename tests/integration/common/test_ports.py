"""Ports of tests, of which several processes ask at a time."""

import subprocess
import sys

from cloister_common.testing.serving import free_port


def test_a_port_that_one_process_was_given_is_given_to_no_other_while_that_lives() -> None:
    mine = free_port()
    other = 30_000 + mine % 2_000  # which nobody is given
    code = (
        "from cloister_common.testing import serving\n"
        f"serving._PORTS = [{mine}] * 99 + [{other}]\nprint(serving.free_port())"
    )
    given = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(given.stdout) == other
