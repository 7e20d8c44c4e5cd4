"""Calls of tools that nobody here can read."""

from typing import Any

import httpx
import pytest
from cloister_llm.guard.middleware import Guard

from tests.unit.llm.guarded import TOKEN, USER, Trusting, application, lifespan, tool


@pytest.mark.parametrize("choice", [{}, {"tool_choice": None}, {"tool_choice": "auto"}])
async def test_calls_that_nobody_would_read_are_refused_by_name(make_settings: Any, choice: dict[str, Any]) -> None:
    settings = make_settings(model={"tool_parser": "none"})
    guard = Guard(application(), settings, prepare=lambda *_: None, compiler=Trusting())
    guard.drain.on_signals = lambda stop: None  # type: ignore[method-assign]
    await lifespan(guard)
    transport = httpx.ASGITransport(guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://llm", headers=TOKEN) as client:
        body = {"messages": [USER], "tools": [tool()]}
        refused = await client.post("/v1/chat/completions", json={**body, **choice})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
        for taken in ("none", "required", {"type": "function", "function": {"name": "f"}}):
            assert (await client.post("/v1/chat/completions", json={**body, "tool_choice": taken})).is_success
