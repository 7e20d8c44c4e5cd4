"""Signs of life of a pod whose vLLM is silent."""

import asyncio
import json
from typing import Any

import pytest
from cloister_llm.guard.middleware import Guard
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tests.unit.common.test_pulse import SIGN, Sent
from tests.unit.llm.guarded import TOKEN, USER, Trusting, lifespan


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("asks", [True, False])
async def test_a_silent_stream_has_them_for_who_asks(make_settings: Any, path: str, asks: bool) -> None:
    sent = Sent()

    async def quiet(request: Request) -> StreamingResponse:
        async def events() -> Any:
            if asks:
                await sent.signs(2)
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    app = Starlette(routes=[Route(path, quiet, methods=["POST"])])
    guard = Guard(app, make_settings(), prepare=lambda *_: None, compiler=Trusting())
    guard.drain.on_signals = lambda stop: None  # type: ignore[method-assign]
    await lifespan(guard)
    body = {"messages": [USER]} if "chat" in path else {"prompt": "a"}
    raw = json.dumps({**body, "stream": True}).encode()
    headers = {**TOKEN, **({"x-cloister-pulse": "0.01"} if asks else {})}
    messages = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    async with asyncio.timeout(20):
        await guard(scope, receive, sent)
    assert (sent.messages.count(SIGN) >= 2) is asks
    assert b"".join(message.get("body", b"") for message in sent.messages if message != SIGN) == b"data: [DONE]\n\n"
