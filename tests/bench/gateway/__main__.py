"""What the gateway costs, in figures: ``python -m tests.bench.gateway WHAT``; see ``--help``.

    --quick WAY        one way, in under 30 s: what a change costs or saves
    --table            all ways, beside peers
    --overload         streams: what becomes of 50 to 3,000 that are asked for at once
    --history          items: what a turn costs after 5 to 1,000
    --sockets          watchers: 1 to 500 of one run; sockets that are only open
    --real-model       beside vLLM itself, in the whole stack
    --fairness         one tenant's first tokens beside another's flood and a batch; with --real-model, of vLLM
    --choice           microseconds: what choosing among 100 pods costs
    --policies         twenty turns under each history policy, in the whole stack
    --cluster          two gateways on a Redis Cluster of three masters, beside one on one Redis
    --pods             three real vLLM processes: our choice among them against round robin (2 GB each)

``--against CHECKOUT`` measures the gateway of another one in turns with this one's. What is measured is pinned to one
core, and everything else (pod, Redis, clients) to another; rounds are interleaved, so that noise of the machine falls
on all alike; medians and ratios are what to read. The gateway runs with everything on: authentication, sealing, what
it keeps written to a Redis with ``appendfsync always``.
"""

import argparse
import tempfile
from contextlib import nullcontext
from pathlib import Path

import uvloop

from tests.bench.gateway import overload
from tests.bench.gateway.choice import choose
from tests.bench.gateway.cluster import run_on_cluster
from tests.bench.gateway.costs import Load
from tests.bench.gateway.fairness import run_fairness
from tests.bench.gateway.pods import run_over_pods
from tests.bench.gateway.policies import run_policies
from tests.bench.gateway.real_model import run_beside_vllm
from tests.bench.gateway.runs import Bench
from tests.bench.gateway.subjects import pinned
from tests.bench.gateway.ways import WAYS


def main() -> None:
    """Runs what the command line asks for."""
    options = _options()
    if options.fairness:
        with nullcontext() if options.real_model else pinned():
            uvloop.run(run_fairness(rounds=options.rounds or 2, tokens=options.tokens, real=options.real_model))
        return
    if options.real_model:
        uvloop.run(run_beside_vllm(rounds=options.rounds or 15, streams=options.streams or 16, tokens=options.tokens))
        return
    if options.policies:
        run_policies(turns=options.rounds or 20, tokens=600, answer=min(options.tokens, 60))
        return
    if options.choice:
        choose(pods=100, conversations=10_000, rounds=options.rounds or 5)
        return
    if options.pods:
        uvloop.run(run_over_pods(pods=3, conversations=options.streams or 10, blocks=options.rounds or 3))
        return
    if options.cluster:
        with tempfile.TemporaryDirectory() as folder:
            conversations = options.streams or 120
            uvloop.run(run_on_cluster(Path(folder), rounds=options.rounds or 5, conversations=conversations, tokens=16))
        return
    load = Load(streams=options.streams or 64, tokens_per_second=options.rate, long=options.tokens)
    bench = Bench(load, against=options.against, peers=options.table if options.peers is None else options.peers)
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
    for name in (
        "table",
        "overload",
        "history",
        "sockets",
        "real-model",
        "fairness",
        "choice",
        "pods",
        "policies",
        "cluster",
    ):
        what.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another one, with its .venv")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, help="beside peers; the table is")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--streams", type=int, help="at once")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second of each")
    parser.add_argument("--tokens", type=int, default=80, help="of a long answer; a short one has 16")
    parser.add_argument("--way", choices=WAYS, default="sse", help="of the streams of --overload")
    default = ",".join(str(number) for number in overload.STREAMS)
    parser.add_argument("--asked", default=default, help=f"how many streams --overload asks for: {default}")
    options = parser.parse_args()
    ways = ("quick", "table", "overload", "history", "sockets", "real_model")
    asked = (*ways, "fairness", "choice", "pods", "policies", "cluster")
    if not any(getattr(options, name) for name in asked):
        parser.error("say what to measure")
    return options


if __name__ == "__main__":
    main()
