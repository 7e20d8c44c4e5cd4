"""A real pod's log at ``debug``: JSON from the first line to the last, and nothing of what passed through it."""

import json
from typing import Any

import httpx

from tests.support.llm import LlmServer

CANARY = "zanzibar-umbrella-quotient"
BAD_GRAMMAR = {"type": "object", "properties": {CANARY: {"type": "string", "pattern": f"({CANARY}"}}}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": CANARY}], "max_tokens": 4, **fields}


def schema(body: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": CANARY, "schema": body}}


async def test_nothing_that_passes_through_a_pod_is_in_its_log_and_every_line_is_json(
    llm: LlmServer, client: httpx.AsyncClient
) -> None:
    good = {"type": "object", "properties": {CANARY: {"const": CANARY}}, "required": [CANARY]}
    sent = [
        chat(),
        chat(stream=True, stop=[CANARY]),
        chat(response_format=schema(good), max_tokens=64),
        chat(response_format=schema(BAD_GRAMMAR)),
        chat(tools=[{"type": "function", "function": {"name": "f", "description": CANARY, "parameters": good}}]),
        chat(temperature=CANARY),
        chat(**{CANARY: CANARY}),
        {"model": CANARY, "messages": []},
    ]
    answers = [
        await client.post(f"/v1/chat/completions?q={CANARY}", json=body, headers={"x-header": CANARY}) for body in sent
    ]
    assert [answer.status_code for answer in answers[:3]] == [200] * 3
    assert all(answer.status_code >= 400 for answer in answers[5:])
    await client.post("/tokenize", json={"model": "chat", "prompt": CANARY})
    await client.get(f"/{CANARY}", headers={"authorization": f"Bearer {CANARY}"})
    log = llm.log.read_text(errors="replace")
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"starting_vllm", "serving"} <= {line["event"] for line in lines}
    assert {line["service"] for line in lines} == {"llm"}
    assert CANARY not in log
    assert llm.token not in log
