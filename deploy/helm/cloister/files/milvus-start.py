"""Runs Milvus Lite's server until SIGTERM: calls that run are finished, then the files are closed.

Its own command knows SIGINT only, and as a container's first process hears of no other signal; and it closes the files
under the calls that run.
"""

import signal
import sys

from milvus_lite.adapter.grpc.server import start_server_in_thread

DATA, HOST, PORT = "/data", "127.0.0.1", 19531
FINISH_SECONDS = 5
"""A search takes milliseconds; the pod has ten seconds in all."""


def main() -> int:
    """Serves; returns the exit code."""
    ends = {signal.SIGTERM, signal.SIGINT}
    # Blocked before any thread begins, so that none of them but this one is interrupted.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server, data, _ = start_server_in_thread(DATA, HOST, PORT)
    signal.sigwait(ends)
    server.stop(FINISH_SECONDS).wait()
    data.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
