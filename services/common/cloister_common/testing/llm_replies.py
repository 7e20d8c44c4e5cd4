"""How `FakeLlm` answers: the bytes of replies, errors and events, as vLLM's server sends them."""

import orjson
from starlette.types import Receive, Send

from cloister_common.testing.llm_shapes import Body

__all__ = ["answer_lifespan", "error_body", "read_all", "reply", "send_done", "send_event"]


def error_body(message: str, type: str, code: int, *, param: str | None = None) -> Body:
    """An error in vLLM's shape."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


async def read_all(receive: Receive) -> bytes:
    """The body of a request."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def reply(send: Send, status: int, body: Body) -> None:
    """A whole answer in JSON."""
    raw = orjson.dumps(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})


async def send_event(send: Send, data: Body) -> None:
    """One event of a stream that has begun."""
    await send({"type": "http.response.body", "body": b"data: " + orjson.dumps(data) + b"\n\n", "more_body": True})


async def send_done(send: Send) -> None:
    """The last event of a stream."""
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def answer_lifespan(receive: Receive, send: Send) -> None:
    """Says yes to the beginning and the end of the server."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
