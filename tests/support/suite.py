"""All that ``make test`` and ``make check`` do, as parts that run side by side, and a table of how long each took.

    python -m tests.support.suite check|test [--with TARGET] [--keep-going] [--times FILE]

A service's integration and contract tests are one part, in one process, so that what is dear to start (vLLM, Milvus,
the embedder with its model) is started once for both. A new folder of tests is a part without being named here.
"""

import argparse
import sys
from pathlib import Path

from tests.support.lanes import Lanes, Part, Result, say, table

__all__ = ["check", "suite"]

_TESTS = Path(__file__).parents[1]
_LANES = 2
"""One that waits and one that computes, on the two cores that CI has. More would make deadlines of tests unfair."""

_QUIET: dict[str, frozenset[str]] = {
    "common": frozenset(),
    "embedder": frozenset(),
    "llm": frozenset({"vllm"}),
}
"""Services whose tests do not wait for a Redis or a Milvus that syncs what it writes, and what else they are."""

_LONGEST_FIRST = ("retriever", "gateway")
"""What takes longest begins first; the rest in the order of their names."""


def check() -> list[Part]:
    """What a person who changed a line waits for."""
    return [_target(name) for name in ("lint", "imports", "types", "unit")]


def suite(beside: str | None = None) -> list[Part]:
    """Everything but the tests on a cluster.

    Args:
        beside: A target of make that keeps the disk busy. It is run with what computes, after what writes durably.
    """
    folders = {path.name for kind in ("integration", "contract") for path in (_TESTS / kind).iterdir() if path.is_dir()}
    names = [name for name in folders if not name.startswith("_")]
    services = [
        Part(f"service-{name}", ("make", "service", f"OF={name}"), _QUIET.get(name, frozenset({"fsync"})))
        for name in sorted(names, key=lambda name: (name not in _LONGEST_FIRST, name))
    ]
    fast, computes = check()[:3], [*check()[3:], _target("chart")]
    durable = [part for part in services if "fsync" in part.traits]
    durable.insert(1, _target("e2e", "fsync", "vllm"))
    durable.append(_target("clients", "fsync", "vllm"))
    quiet = [part for part in services if "fsync" not in part.traits]
    if beside is None:
        return [*fast, *computes, *durable, *quiet]
    return [*fast, *durable, _target(beside, "disk"), *quiet, *computes]


def _target(name: str, *traits: str) -> Part:
    return Part(name, ("make", name), frozenset(traits))


def _write_times(file: Path, results: list[Result]) -> None:
    with file.open("a", encoding="utf-8") as times:
        for result in results:
            times.write(f"{result.part.name} {result.seconds:.0f} {result.processor:.0f}\n")


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.suite")
    parser.add_argument("what", choices=["check", "test"])
    parser.add_argument("--with", dest="beside", metavar="TARGET")
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--times", type=Path, metavar="FILE")
    options = parser.parse_args()
    parts = check() if options.what == "check" else suite(options.beside)
    try:
        results = Lanes(_LANES, keep_going=options.keep_going, say=say).run(parts)
    except KeyboardInterrupt:
        say("cloister: interrupted; everything that was started has been ended")
        return 130
    if options.times is not None:
        _write_times(options.times, results)
    say(f"\n{table(results)}")
    failed = [result.part for result in results if result.code]
    if failed:
        alone = "; ".join(" ".join(part.command) for part in failed)
        left = len(parts) - len(results)
        rest = f" {left} parts were not begun (make -k {options.what} begins them)." if left else ""
        say(f"\ncloister: failed: {', '.join(part.name for part in failed)}. Alone: {alone}.{rest}")
        return 1
    say(f"\ncloister: all {'checks and unit' if options.what == 'check' else 'checks and'} tests passed")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
