"""What the gateway costs: ``python -m tests.bench.gateway --quick WAY [--against CHECKOUT]``, and more; see ``--help``.

The subject is pinned to one core, and everything else (pod, Redis, clients) to another. Rounds of what is compared are
interleaved, so that noise of the machine falls on all of them; medians and ratios are what to read. The gateway runs
with everything on: authentication, sealing, what it keeps written to Redis with ``appendfsync always``.
"""

import argparse
from pathlib import Path

import uvloop

from tests.bench.gateway.costs import Load
from tests.bench.gateway.quick import run_quick
from tests.bench.gateway.ways import WAYS


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway")
    parser.add_argument("--quick", choices=WAYS, required=True, metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another one, with its .venv, in turns")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--streams", type=int, default=64, help="at once")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second of each")
    parser.add_argument("--tokens", type=int, default=72, help="of a long answer; a short one has 8")
    options = parser.parse_args()
    load = Load(streams=options.streams, tokens_per_second=options.rate, long=options.tokens)
    uvloop.run(run_quick(options.quick, against=options.against, rounds=options.rounds, load=load))


if __name__ == "__main__":
    main()
