"""What usage and limits cost: queries of a large ledger, and one decision of limits.

    python -m tests.bench.usage [--projects 1000] [--months 13] [--rounds 9] [--decisions 2000]

The ledger has what two models used in each project on each day, by a gateway's own script: it is written for one
project, whose sums are then copied to the others in Redis. (Its rows lie in no sum, and no query reads them.) Queries
are asked over HTTP, of a gateway on this machine with a Redis that syncs each write; each is asked first with nothing
in the gateway's memory, and then again. A decision is `Limits.reserve` with a limit at each of four levels: one alone,
after which the process sleeps until Redis has synced, and wakes with cold caches; and sixteen at once, of which each
takes a third of that.
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import uvloop
from cloister_common.logs import configure_logging
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore
from cloister_gateway.commands import open_directory
from cloister_gateway.limit_settings import LimitSettings
from cloister_gateway.limits import Limits
from cloister_gateway.limits.granted import GrantedLimits
from cloister_gateway.limits.reservations import Reservations
from cloister_gateway.settings import GatewaySettings, RedisSettings
from cloister_gateway.storage.client import command_client
from cloister_gateway.storage.layout import usage_key
from cloister_gateway.storage.opening import open_storage
from cloister_gateway.usage import Generation, PromptSize, Used
from cloister_gateway.usage.records import Row, Sum, Times, Whom
from cloister_gateway.usage.store import UsageStore

from tests.support.gateway import first_keys, gateway_settings, secret_file
from tests.support.redis_server import RedisOnDisk, RedisServer

_DAY = 86_400
_MODELS = ("qwen3-32b", "qwen3-4b")
_LEVELS = ("organization", "project", "user", "key")
_WARM = 200
_AT_ONCE = 16


class Decision(NamedTuple):
    """What one decision of limits takes.

    Attributes:
        cpu: Microseconds of the processor of this process: sealing and the client of Redis included.
        together: The same of each of `_AT_ONCE`.
        trips: Round trips to Redis.
    """

    cpu: float
    together: float
    trips: float


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=int, default=1000)
    parser.add_argument("--months", type=int, default=13)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--decisions", type=int, default=2000)
    options = parser.parse_args()
    configure_logging(service="bench", level="error", stream=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-usage-") as folder:
        server = RedisOnDisk(Path(folder))
        server.start()
        try:
            decision = uvloop.run(decision_of(server, options.decisions))
            print(f"a decision of limits with {len(_LEVELS)} levels, mean of {options.decisions}")
            print(f"  {decision.cpu:6.0f} µs of the processor alone   {decision.trips:.2f} round trips")
            print(f"  {decision.together:6.0f} µs each of {_AT_ONCE} at once")
            server.flush()
            settings = gateway_settings(Path(folder), server)
            gateway = first_keys(settings)
            asyncio.run(fill(server, settings, options.projects, options.months))
            print(f"queries of {options.months} months of {options.projects} projects, ms: first, median of later ones")
            with gateway.serve() as url, httpx.Client(timeout=60) as client:
                headers = dict(gateway.headers(gateway.admin_key))
                for name, query in _queries().items():
                    times = [_asked(client, url, query, headers) for _ in range(options.rounds)]
                    print(f"  {name:44} {times[0] * 1e3:7.0f} {statistics.median(times[1:]) * 1e3:7.0f}")
        finally:
            server.stop()


def _queries() -> Mapping[str, str]:
    start = int(time.time()) // _DAY * _DAY - 30 * _DAY
    month = f"start_time={start}&limit=31"
    return {
        "a month by project": f"usage/completions?{month}&group_by=project_id",
        "a month by project and model": f"usage/completions?{month}&group_by=project_id&group_by=model",
        "a month in all": f"usage/completions?{month}",
        "a month's costs by project": f"costs?{month}&group_by=project_id",
    }


def _asked(client: httpx.Client, url: str, query: str, headers: Mapping[str, str]) -> float:
    started = time.perf_counter()
    answer = client.get(f"{url}/v1/organization/{query}", headers=headers)
    seconds = time.perf_counter() - started
    answer.raise_for_status()
    return seconds


async def fill(server: RedisServer, settings: GatewaySettings, projects: int, months: int) -> None:
    """Writes the use of ``projects`` projects up to today."""
    async with open_directory(settings) as directory:
        names = [(await directory.create_project(f"p{number}")).id for number in range(projects)]
    async with open_storage(settings.redis, settings.vault) as (redis, keyring):
        store = UsageStore(redis, keyring, settings.usage)
        now = int(time.time())
        rows = [
            Row(
                f"g{day}-{model}",
                names[0],
                Whom("somebody", "key_1", model),
                "response",
                None,
                now - day * _DAY,
                Times(),
                Sum.of_one(900 + day, 500, 200, 0),
                exact=True,
                ending="completed",
            )
            for day in range(months * 31)
            for model in _MODELS
        ]
        for place in range(0, len(rows), 100):
            await asyncio.gather(*(store.add(row) for row in rows[place : place + 100]))
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        kinds = {cast("bytes", key).decode().rsplit("}:", 1)[1] for key in client.keys(usage_key(names[0], "*"))}
        for name in names[1:]:
            for what in kinds:
                if what.startswith(("days:", "month:", "whom")):
                    pipeline.copy(usage_key(names[0], what), usage_key(name, what))
        pipeline.execute()


async def decision_of(server: RedisServer, decisions: int) -> Decision:
    """Measures decisions. (What settling takes is not counted: nobody waits for it.)"""
    redis = command_client(RedisSettings.model_validate(server.settings))
    with tempfile.TemporaryDirectory() as folder:
        keyring = Keyring("gateway", FileRootKey(secret_file(Path(folder), "root")), MemoryKeyStore())
        rules: dict[str, Any] = {
            level: {"level": level, "per": "month", "tokens": 10**12, "requests": 10**9} for level in _LEVELS
        }
        limits = Limits(
            LimitSettings.model_validate({"rules": rules}),
            Reservations(redis),
            lambda changed: GrantedLimits(redis, keyring, cast("Any", None), changed),
            keyring,
            running=dict,
            lost=_lost,
        )
        numbers = itertools.count()

        async def decide() -> None:
            name = f"gen_{next(numbers)}"
            one = Generation(name, "proj_1", "key_1", "fake", "chat", "somebody", int(time.time()))
            await limits.reserve(one, most_output_tokens=500, prompt_tokens=PromptSize(900))

        cpu, together, trips = 0.0, 0.0, 0
        for number in range(_WARM + decisions):
            read, began = await _trips(redis), time.process_time()
            await decide()
            if number >= _WARM:
                cpu += time.process_time() - began
                trips += await _trips(redis) - read - 1
        for _ in range(decisions // _AT_ONCE):
            began = time.process_time()
            await asyncio.gather(*(decide() for _ in range(_AT_ONCE)))
            together += time.process_time() - began
    await redis.aclose()
    return Decision(cpu / decisions * 1e6, together / (decisions // _AT_ONCE * _AT_ONCE) * 1e6, trips / decisions)


async def _trips(redis: Any) -> int:
    """How often Redis has read from its clients; each asking of it is one more."""
    return int((await redis.info("stats"))["total_reads_processed"])


async def _lost(generation: Generation, used: Used) -> None:
    raise AssertionError("no lease ends while this runs")


if __name__ == "__main__":
    main()
