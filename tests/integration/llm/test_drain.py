"""The end of a real pod: a running answer is finished, one that takes too long is cut off, and the process ends."""

import json
from functools import partial

import anyio
import httpx
import pytest

from tests.support.llm import LlmServer
from tests.support.waiting import until

BODY = {"model": "chat", "messages": [{"role": "user", "content": "Tell me."}], "stream": True, "ignore_eos": True}


@pytest.mark.ends_the_pod
async def test_sigterm_lets_a_short_answer_finish_and_cuts_off_an_endless_one(llm: LlmServer) -> None:
    ends: dict[str, str] = {}

    async def read(client: httpx.AsyncClient, name: str, tokens: int, begun: anyio.Event) -> None:
        body = {**BODY, "max_tokens": tokens}
        try:
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                        begun.set()
                    if line == "data: [DONE]":
                        ends[name] = "whole"
        except httpx.RemoteProtocolError:
            ends[name] = "cut off"

    async with httpx.AsyncClient(base_url=llm.url, headers=llm.headers, timeout=120) as client:
        begun = [anyio.Event(), anyio.Event()]

        async def end_it() -> None:
            for event in begun:
                await event.wait()
            llm.terminate()
            await until(partial(is_draining, client), seconds=60, what="the pod takes nothing new")
            refused = await client.post("/v1/chat/completions", json=BODY)
            assert refused.status_code == 503
            assert (await client.get("/livez")).status_code == 200

        async with anyio.create_task_group() as group:
            group.start_soon(read, client, "short", 6, begun[0])
            group.start_soon(read, client, "endless", 2000, begun[1])
            group.start_soon(end_it)
    assert ends == {"short": "whole", "endless": "cut off"}
    await anyio.to_thread.run_sync(llm.wait)


async def is_draining(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 503
