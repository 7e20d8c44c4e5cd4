"""A retriever that only searches, over passages that a test sets, and knows its stores, as the gateway calls it."""

from dataclasses import dataclass, field
from typing import Any

import orjson
from cloister_common.internal import InternalTokens
from starlette.types import Receive, Scope, Send

__all__ = ["FakeSearch", "found"]


def found(text: str, *, file_id: str = "file-1", filename: str = "facts.md", **place: Any) -> dict[str, Any]:
    """A search result in the retriever's shape."""
    return {
        "vector_store_id": "vs_1",
        "file_id": file_id,
        "filename": filename,
        "score": 0.9,
        "attributes": {},
        "content": [{"type": "text", "text": text}],
        "passage": {
            "id": f"p-{text}",
            "index": 0,
            "page": None,
            "section": None,
            "start": 0,
            "end": len(text),
            **place,
        },
    }


@dataclass(eq=False)
class FakeSearch:
    """The service; an ASGI application.

    Attributes:
        token: The internal token it asks for.
        stores: The passages of each tenant-blind store by its id; an unknown id is a 404.
        refuse_status: If set, every search is answered with it.
        calls: ``(tenant, body)`` of every search so far.
    """

    token: str
    stores: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refuse_status: int | None = None
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        assert InternalTokens([self.token.encode()]).accepts(headers.get("authorization"))
        if scope["method"] == "GET":
            await self._store(scope["path"].removeprefix("/v1/vector_stores/"), send)
            return
        assert (scope["method"], scope["path"]) == ("POST", "/internal/search")
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        body = orjson.loads(raw)
        self.calls.append((headers["x-cloister-tenant"], body))
        unknown = [name for name in body["vector_store_ids"] if name not in self.stores]
        if self.refuse_status is not None:
            await _reply(send, self.refuse_status, {"error": {"message": "refused as the test asked"}})
        elif unknown:
            await self._store(unknown[0], send)
        else:
            results = [result for name in body["vector_store_ids"] for result in self.stores[name]]
            await _reply(send, 200, {"data": results[: body["max_num_results"]]})

    async def _store(self, store_id: str, send: Send) -> None:
        if store_id in self.stores:
            await _reply(send, 200, {"id": store_id, "object": "vector_store"})
        else:
            error = {"message": f"No such vector store: '{store_id}'.", "code": "not_found", "param": None}
            await _reply(send, 404, {"error": error})


async def _reply(send: Send, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(body)})
