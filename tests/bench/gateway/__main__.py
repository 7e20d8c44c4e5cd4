"""What the gateway costs, in figures: ``python -m tests.bench.gateway WHAT``; see ``--help``.

    --quick WAY        one way, in under 30 s: what a change costs or saves
    --table            all ways, beside peers
    --overload         streams: what becomes of 50 to 3,000 that are asked for at once
    --history          items: what a turn costs after 5 to 1,000
    --sockets          watchers: 1 to 500 of one run; sockets that are only open
    --real-model       beside vLLM itself, in the whole stack

``--against CHECKOUT`` measures the gateway of another one in turns with this one's. What is measured is pinned to one
core, and everything else (pod, Redis, clients) to another; rounds are interleaved, so that noise of the machine falls
on all alike; medians and ratios are what to read. The gateway runs with everything on: authentication, sealing, what
it keeps written to a Redis with ``appendfsync always``.
"""

import argparse
from pathlib import Path

import uvloop

from tests.bench.gateway import overload
from tests.bench.gateway.costs import Load
from tests.bench.gateway.real_model import run_beside_vllm
from tests.bench.gateway.runs import Bench
from tests.bench.gateway.ways import WAYS


def main() -> None:
    """Runs what the command line asks for."""
    options = _options()
    if options.real_model:
        uvloop.run(run_beside_vllm(rounds=options.rounds or 15, streams=options.streams or 16, tokens=options.tokens))
        return
    load = Load(streams=options.streams or 64, tokens_per_second=options.rate, long=options.tokens)
    bench = Bench(load, against=options.against, peers=options.table and not options.alone)
    with bench:
        if options.quick:
            uvloop.run(bench.ways([options.quick], rounds=options.rounds or 2))
        if options.table:
            uvloop.run(bench.ways(list(WAYS), rounds=options.rounds or 3))
        if options.overload:
            uvloop.run(bench.overload(options.way, [int(one) for one in options.asked.split(",")]))
        if options.history:
            uvloop.run(bench.history())
        if options.sockets:
            uvloop.run(bench.sockets())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument("--quick", choices=WAYS, metavar="WAY", help=", ".join(WAYS))
    for name in ("table", "overload", "history", "sockets", "real-model"):
        what.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another one, with its .venv")
    parser.add_argument("--alone", action="store_true", help="the table without peers")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--streams", type=int, help="at once")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second of each")
    parser.add_argument("--tokens", type=int, default=80, help="of a long answer; a short one has 16")
    parser.add_argument("--way", choices=WAYS, default="sse", help="of the streams of --overload")
    default = ",".join(str(number) for number in overload.STREAMS)
    parser.add_argument("--asked", default=default, help=f"how many streams --overload asks for: {default}")
    options = parser.parse_args()
    if not any((options.quick, options.table, options.overload, options.history, options.sockets, options.real_model)):
        parser.error("say what to measure")
    return options


if __name__ == "__main__":
    main()
