"""Bursts over three gateways, of which two are killed between reservation and settlement.

Nothing is ever overrun, nothing stays reserved, and what is written down is what was counted.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.integration.gateway.limits.conftest import Limit, Limited
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

MOST, AT_ONCE = 1500, 12
HELLO = [{"role": "user", "content": "hello there"}]


class Counts:
    """What Redis counts of the project's tokens and of what runs, looked at again and again."""

    def __init__(self, limited: Limited) -> None:
        self._redis: Any = limited.redis.client()
        self._stop = threading.Event()
        self.most_used = 0
        self.most_running = 0

    def used(self) -> int:
        """Tokens used and reserved."""
        return sum(int(self._redis.hget(key, "u") or 0) for key in self._of("hash") if self._redis.hexists(key, "u"))

    def running(self) -> int:
        """Generations that run, those included whose lease is over and at which nobody has looked since."""
        return sum(self._redis.zcard(key) for key in self._of("zset") if not key.endswith(b":leases"))

    def reserved(self) -> int:
        """Generations that have something reserved, and neither ended nor lost their lease."""
        held = [json.loads(raw) for key in self._redis.keys("limits:*:held") for raw in self._redis.hvals(key)]
        return sum("l" not in one for one in held)

    def _of(self, kind: str) -> list[bytes]:
        return [key for key in self._redis.keys("limits:{*}:*") if self._redis.type(key) == kind.encode()]

    @contextmanager
    def watched(self) -> Iterator["Counts"]:
        """Notes the most there is of each meanwhile."""
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            yield self
        finally:
            self._stop.set()
            watcher.join()
            self._redis.close()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most_used = max(self.most_used, self.used())
            self.most_running = max(self.most_running, self.running())


def burst(limited: Limited, urls: Sequence[str], count: int) -> list[int]:
    """So many chats and responses at once, in turns over gateways; the status of each, 0 where its gateway died."""
    headers = dict(limited.gateway.headers())

    def one(number: int) -> int:
        url = urls[number % len(urls)]
        try:
            if number % 2:
                body = {"model": "fake", "input": "hi", "background": True, "max_output_tokens": 60}
                return httpx.post(f"{url}/v1/responses", headers=headers, json=body, timeout=60).status_code
            body = {"model": "fake", "messages": HELLO, "max_tokens": 60, "stream": True}
            return httpx.post(f"{url}/v1/chat/completions", headers=headers, json=body, timeout=60).status_code
        except httpx.TransportError:
            return 0

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def written(limited: Limited) -> int:
    """Tokens of all rows, by the official SDK."""
    page = limited.admin.usage.completions(start_time=int(time.time()) - 86_400)
    return sum(one.input_tokens + one.output_tokens for bucket in page.data for one in bucket.results)


# 15 s of it are the leases of the chats whose gateways were killed.
def test_bursts_over_three_gateways_of_which_two_die_never_overrun(limit: Limit, tmp_path: Path) -> None:
    rules: tuple[dict[str, Any], ...] = (
        {"level": "project", "per": "month", "tokens": MOST},
        {"level": "key", "running": AT_ONCE},
    )
    with limit(*rules) as limited, Counts(limited).watched() as counts:
        # (The pod counts words, and what was written before counts by its tokenizer.)
        limited.llm.answer = [f" word{number}" for number in range(7)]
        doomed = [GatewayProcess(folder, limited.gateway.settings) for folder in _folders(tmp_path, 2)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(GatewayProcess.start, doomed))
        try:
            limited.llm.hold_after = 3
            urls = [limited.urls[0], *(process.url for process in doomed)]
            with ThreadPoolExecutor(1) as pool:
                first = pool.submit(burst, limited, urls, 3 * AT_ONCE)
                # Each has reserved and begun, and none has settled.
                wait_until(lambda: limited.llm.running == AT_ONCE, what="as many run as may")
                with ThreadPoolExecutor(2) as killers:
                    list(killers.map(GatewayProcess.kill, doomed))
                limited.llm.hold_after = None
                limited.llm.release()
                statuses = first.result()
        finally:
            for process in doomed:
                process.kill()
        assert set(statuses) <= {200, 429, 0}
        assert statuses.count(429) >= AT_ONCE
        # What the others leave is used up, while leases of the dead are still running.
        while 200 in burst(limited, urls[:1], AT_ONCE):
            pass
        wait_until(lambda: counts.reserved() == 0, seconds=60, what="what the dead had reserved is over")
        while 200 in burst(limited, urls[:1], AT_ONCE):
            pass
        wait_until(lambda: counts.reserved() == 0, what="the last ones are settled")
        wait_until(lambda: counts.running() == 0, what="nothing runs")
        assert 0 < counts.most_used <= MOST
        assert counts.most_running <= AT_ONCE
        # (Less than the smallest of these requests needs is left.)
        assert counts.used() > MOST - 100
        wait_until(lambda: written(limited) == counts.used(), what="the rows are what was counted")


def _folders(where: Path, count: int) -> list[Path]:
    folders = [where / f"gateway-{number}" for number in range(count)]
    for folder in folders:
        folder.mkdir()
    return folders
