"""What stands behind the guard in its tests, and what is sent to it."""

from typing import Any

from cloister_llm.guard.compiler import Compiler
from cloister_llm.guard.middleware import Guard
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

TOKEN = {"authorization": f"Bearer {'t' * 40}"}
USER = {"role": "user", "content": "hi"}
PNG = "data:image/png;base64,iVBORw0KGgo="


async def echo(request: Request) -> JSONResponse:
    body = await request.body()
    return JSONResponse({"path": request.url.path, "body": body.decode()})


async def stream(request: Request) -> StreamingResponse:
    async def chunks() -> Any:
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


def application() -> Starlette:
    """Has far more routes than may answer, as vLLM does."""
    everywhere = ["/health", "/v1/models", "/tokenize", "/metrics", "/invocations", "/pause", "/v1/embeddings"]
    routes = [Route(path, echo, methods=["GET", "POST"]) for path in everywhere]
    return Starlette(routes=[*routes, Route("/v1/chat/completions", stream, methods=["POST"])])


async def lifespan(guard: Guard) -> list[str]:
    """Runs the lifespan through; gives what was sent."""
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await guard({"type": "lifespan", "app": guard.app}, receive, send)
    return sent


class Trusting(Compiler):
    """Takes every schema; remembers which it was asked for."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[tuple[list[str], str]] = []

    async def check(self, schemas: Any, *, tenant: str) -> None:
        self.asked.append(([param for param, _ in schemas], tenant))


def tool(parameters: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters or {"type": "object"}}, **more}


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
