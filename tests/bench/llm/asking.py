"""Asks a pod for answers of so many tokens, and reads its metrics."""

import re
import time

import httpx

from tests.support.llm import LlmServer

__all__ = ["Asker", "tokens_a_second"]

_SECONDS = 1200.0


class Asker:
    """Asks one pod. Prompts differ from each other from their beginning, so that no prefix cache answers."""

    def __init__(self, server: LlmServer) -> None:
        self._server = server
        self._client = httpx.AsyncClient(
            base_url=server.url, headers=server.headers, timeout=_SECONDS, limits=httpx.Limits(max_connections=None)
        )
        self._asked = 0

    async def ask(self, tokens: int, *, words: int = 8) -> int:
        """How many tokens an answer has that must have ``tokens``, to a question of about so many words."""
        self._asked += 1
        question = f"{self._asked}: " + " ".join(f"word{self._asked * words + place}" for place in range(words))
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": question}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
        }
        response = await self._client.post("/v1/chat/completions", json=body)
        response.raise_for_status()
        return int(response.json()["usage"]["completion_tokens"])

    async def metric(self, name: str) -> float:
        """The sum of one of vLLM's metrics."""
        text = (await self._client.get(f"http://127.0.0.1:{self._server.metrics_port}/metrics")).text
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def tokens_a_second(tokens: int, started: float) -> float:
    """Of what was begun at ``started``, on `time.perf_counter`."""
    return tokens / (time.perf_counter() - started)
