"""How fast vLLM is as we start it, in figures: ``python -m tests.bench.llm WHAT``; see ``--help``.

    --speed      tokens a second at 1, 16 and 32 streams, as vLLM was started before and as it is now
    --burst      more long conversations at once than the cache holds: what is computed twice, and what comes out
    --plan       what vLLM says of its cache for the layers of published models, beside the plan

All ways of the first two run side by side on the same cores and are asked in turns, one while the others idle, so that
noise of the machine falls on all alike; medians and ratios are what to read. ``--ways`` names others than these.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from pathlib import Path

from tests.bench.llm.burst import burst
from tests.bench.llm.layers import compare_plans
from tests.bench.llm.speed import speed
from tests.bench.llm.ways import WAYS, server


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.llm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--burst", action="store_true")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument(
        "--ways", help=f"with commas, the first is what the others are compared with: {', '.join(WAYS)}"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer of --speed")
    options = parser.parse_args()
    if options.speed + options.burst + options.plan != 1:
        parser.error("say what to measure: --speed, --burst or --plan")
    if options.plan:
        compare_plans()
        return
    names = (options.ways or ("before,now" if options.speed else "all,few,now")).split(",")
    if unknown := [name for name in names if name not in WAYS]:
        parser.error(f"there is no way {unknown[0]}")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = {}
        for name in names:
            servers[name] = server(Path(folder, name), WAYS[name], kv_cache_gib=1.0 if options.speed else 0.25)
            stack.callback(servers[name].kill)
            started = time.perf_counter()
            servers[name].start()
            print(f"{name} is ready after {time.perf_counter() - started:.0f} s", flush=True)
        work = speed(servers, options.rounds, options.tokens) if options.speed else burst(servers, options.rounds)
        asyncio.run(work)


if __name__ == "__main__":
    main()
