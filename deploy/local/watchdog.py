"""Ends what the runner started when the runner itself can no longer do it: ``python -m deploy.local.watchdog``.

The runner writes ``+GROUP`` for each process group it starts and ``-GROUP`` for each that has ended. When the pipe
closes while groups are left, the runner was killed: they get SIGTERM, and after a grace SIGKILL. Only the standard
library is imported, and the watchdog has a session of its own, so that it outlives whatever ends the runner.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable

__all__ = ["end_groups", "groups_left"]

_GRACE_SECONDS = 10.0


def groups_left(lines: Iterable[str]) -> set[int]:
    """Reads until the pipe closes; the process groups that were not reported as ended."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    return groups


def end_groups(groups: set[int], grace_seconds: float = _GRACE_SECONDS) -> None:
    """Asks every process of ``groups`` to end, then makes those end that are still there."""
    _signal_all(groups, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while _signal_all(groups, 0) and time.monotonic() < deadline:
        time.sleep(0.05)  # only a parent could wait for them, and that was the runner
    _signal_all(groups, signal.SIGKILL)


def _signal_all(groups: set[int], number: int) -> bool:
    """Whether any group is still there."""
    found = False
    for group in groups:
        try:
            os.killpg(group, number)
            found = True
        except ProcessLookupError:
            continue
    return found


if __name__ == "__main__":
    end_groups(groups_left(sys.stdin))
