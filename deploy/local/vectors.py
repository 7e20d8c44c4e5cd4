"""Milvus Lite's server on a Unix socket: ``python -m deploy.local.vectors --data-dir DIR --socket PATH``.

It knows no credential, so on a port of loopback every user of the machine could read, change and drop what is stored.
A socket in a folder of its owner's is closed to them. And it does not survive a full disk: after a write that was cut
short, what it writes behind it is lost at the next start. So no rows are taken while the disk is short of room, and
should a write of its log fail nevertheless, it ends at once: all that it acknowledged stands before that place.
"""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from cloister_common.disk import DiskFloor
from milvus_lite.adapter.grpc.server import run_server
from milvus_lite.storage.wal import WAL

__all__ = ["main", "watched"]

Write = Callable[[Any, Any], None]


def main() -> None:
    """Serves until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.vectors")
    parser.add_argument("--data-dir", type=Path, required=True, help="where the vectors lie")
    parser.add_argument("--socket", type=Path, required=True, help="the Unix socket to listen on")
    parser.add_argument("--min-free-mib", type=int, required=True, help="below this no rows are taken")
    arguments = parser.parse_args()
    # It closes its files in order on a KeyboardInterrupt only.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    WAL.write_insert = watched(WAL.write_insert, DiskFloor(arguments.data_dir, arguments.min_free_mib))
    WAL.write_delete = watched(WAL.write_delete, None)
    # It joins the two with a colon, and gRPC takes "unix:PATH" for an address.
    run_server(str(arguments.data_dir), host="unix", port=str(arguments.socket))


def watched(write: Write, floor: DiskFloor | None) -> Write:
    """A method of the write-ahead log that refuses below ``floor`` and ends this process where it fails."""

    @wraps(write)
    def watching(log: Any, batch: Any) -> None:
        if floor is not None and floor.missing():
            raise OSError(errno.ENOSPC, "There is less room on the disk than disk.min_free_mib says.")
        try:
            write(log, batch)
        except OSError as error:
            sys.stderr.write(f"The write-ahead log cannot be written ({error.strerror}): ending.\n")
            os._exit(1)

    return watching


if __name__ == "__main__":
    main()
