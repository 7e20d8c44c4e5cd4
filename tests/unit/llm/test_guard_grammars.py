"""The guard before the compiler of grammars."""

import asyncio
from typing import Any

import httpx
import pytest
from cloister_llm.guard.compiler_watch import CompilerWatch
from cloister_llm.guard.middleware import Guard
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.unit.llm.guarded import TOKEN, USER, Trusting, application, echo, form, lifespan, tool


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "structural_tag", "structures": [], "triggers": []}}, "response_format"),
        ({"response_format": {"type": "regex"}}, "response_format.type"),
        ({"response_format": {**form({}), "structural_tag": "x"}}, "response_format.structural_tag"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "x": 1}}},
            "response_format.json_schema.x",
        ),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": form({"type": "array", "minItems": 10_001})}, "response_format.json_schema.schema"),
        ({"response_format": form(5)}, "response_format.json_schema.schema"),
        ({"tools": "x"}, "tools"),
        ({"tools": [{"type": "custom", "function": {}}]}, "tools[0].type"),
        ({"tools": [tool(format={})]}, "tools[0].format"),
        ({"tools": [tool(), tool({"$ref": "#"})]}, "tools[1].function.parameters"),
        *(
            ({field: "x"}, field)
            for field in ("guided_json", "guided_regex", "guided_grammar", "guided_choice", "structural_tag", "grammar")
        ),
    ],
)
async def test_only_schemas_within_bounds_reach_the_grammar_compiler(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await client.post("/v1/chat/completions", json={"messages": [USER], **body})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(param)


async def test_what_becomes_a_grammar_is_tried_first_in_its_tenants_turn(make_settings: Any) -> None:
    compiler = Trusting()
    guard = Guard(application(), make_settings(), prepare=lambda *_: None, compiler=compiler)
    guard.drain.on_signals = lambda stop: None  # type: ignore[method-assign]
    await lifespan(guard)
    must = {"tools": [tool(), tool()], "tool_choice": "required"}
    bodies: list[dict[str, Any]] = [
        *({}, {"tools": [tool()]}, {"response_format": {"type": "text"}}),
        *({"response_format": form({})}, must, {"response_format": {"type": "json_object"}}),
    ]
    transport = httpx.ASGITransport(guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://llm", headers=TOKEN) as client:
        for body in bodies:
            done = await client.post("/v1/chat/completions", json={"messages": [USER], "cache_salt": "t", **body})
            assert done.status_code == 200
    tools = [*(f"tools[{index}].function.parameters" for index in (0, 1)), "tools"]
    assert compiler.asked == [(["response_format.json_schema.schema"], "t"), (tools, "t"), ([], "t")]


async def test_a_compiler_that_hangs_ends_the_pod_and_plain_answers_go_on(make_settings: Any) -> None:
    hung = asyncio.Event()

    async def chat(request: Request) -> JSONResponse:
        if "response_format" in await request.json():
            await asyncio.Event().wait()
        return JSONResponse({})

    def stop() -> None:
        hung.set()

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/health", echo)])
    app.state.server = type("Server", (), {"__setattr__": lambda *_: stop()})()
    settings = make_settings(engine={"compiler_seconds": 0.2}, server={"shutdown_seconds": 1})
    guard = Guard(app, settings, prepare=lambda *_: None, compiler=Trusting())
    guard.drain.on_signals = lambda stop: None  # type: ignore[method-assign]
    await lifespan(guard)
    transport = httpx.ASGITransport(guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://llm", headers=TOKEN) as client:
        body = {"messages": [USER], "response_format": {"type": "json_object"}}
        late = asyncio.ensure_future(client.post("/v1/chat/completions", json=body))
        async with asyncio.timeout(10):
            await hung.wait()
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/livez")).status_code == 200
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)


async def test_a_late_structured_answer_alone_does_not_end_the_pod() -> None:
    asked: list[bool] = []
    enough = asyncio.Event()

    async def ask(structured: bool) -> None:
        asked.append(structured)
        if len(asked) >= 6:
            enough.set()

    async def send(_: Any) -> None: ...

    watch = CompilerWatch(0.02)
    with watch.waiting(send):
        watching = asyncio.ensure_future(watch.until_it_hangs(ask))
        async with asyncio.timeout(10):
            await enough.wait()
        assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
