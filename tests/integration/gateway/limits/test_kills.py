"""Gateways that die between reservation and settlement: what they reserved is settled by who takes up their runs, or
counts as used when its lease is over."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.gateway.limits.conftest import Limit
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

MOST = 4000
HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def killed(tmp_path: Path) -> Callable[[Any], GatewayProcess]:
    def start(settings: Any) -> GatewayProcess:
        process = GatewayProcess(tmp_path, settings)
        process.start()
        return process

    return start


# 15 s of it are the lease of a chat, whose gateway is the only one that knows of it.
def test_a_killed_gateway_leaves_nothing_reserved_and_nothing_overrun(
    limit: Limit, killed: Callable[[Any], GatewayProcess]
) -> None:
    rules = ({"level": "project", "per": "month", "tokens": MOST}, {"level": "key", "running": 3})
    with limit(*rules) as limited, limited.client() as client:
        # (The pod counts words, and what was written before counts by its tokenizer.)
        limited.llm.answer = [f" word{number}" for number in range(7)]
        process = killed(limited.gateway.settings)
        limited.llm.hold_after = 3
        headers = dict(limited.gateway.headers())
        try:
            made = [
                httpx.post(
                    f"{process.url}/v1/responses",
                    headers=headers,
                    json={"model": "fake", "input": "hi", "background": True, "max_output_tokens": 500},
                    timeout=30,
                ).json()["id"]
                for _ in range(2)
            ]
            body = {"model": "fake", "messages": HELLO, "max_tokens": 300, "stream": True}
            with httpx.stream(
                "POST", f"{process.url}/v1/chat/completions", headers=headers, json=body, timeout=30
            ) as chat:
                pieces = chat.iter_bytes()
                next(pieces)
                wait_until(lambda: limited.llm.running == 3)
                assert limited.chat().status_code == 429
                process.kill()
        finally:
            process.kill()
        limited.llm.release()
        ended: list[Any] = []
        for name in made:
            wait_until(partial(_completed, client, name, ended), what="it was taken up")

        def standing() -> int:
            """What is used and reserved, by the refusal of what is too much in any case."""
            refused = limited.chat(max_tokens=2000, n=2)
            assert refused.status_code == 429
            return MOST - int(refused.headers["x-ratelimit-remaining-tokens"])

        spent = sum(response.usage.total_tokens for response in ended)
        # The chat counts as the most it may have been, and no less than that; the responses as what they were.
        wait_until(lambda: standing() <= spent + 300 + 30, what="the responses are settled")
        assert standing() >= spent + 300
        # None of the three runs any more.
        limited.llm.hold_after = 1
        for _ in range(3):
            wait_until(lambda: _begun(client), what="the lease of the chat is over")
        assert limited.chat().status_code == 429
        limited.llm.release()

        def written() -> int:
            """What is written down, of all of them together."""
            page = limited.admin.usage.completions(start_time=int(time.time()) - 86_400)
            used = [result for bucket in page.data for result in bucket.results]
            return sum(one.input_tokens + one.output_tokens for one in used)

        # The lost chat is among the rows too: they have the numbers that the limits count.
        wait_until(lambda: written() == standing() > spent + 300, what="all of it is written down")


def _completed(client: Any, name: str, ended: list[Any]) -> bool:
    response = client.responses.retrieve(name)
    if response.status == "completed":
        ended.append(response)
    return bool(response.status == "completed")


def _begun(client: Any) -> bool:
    body = {"model": "fake", "input": "hi", "background": True, "max_output_tokens": 9}
    url, headers = f"{client.base_url}responses", {"authorization": f"Bearer {client.api_key}"}
    return httpx.post(url, headers=headers, json=body, timeout=30).status_code == 200
