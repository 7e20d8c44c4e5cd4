"""A retriever in memory: the same paths, shapes and errors, no Milvus, no keys, no parsing.

Every file is taken as UTF-8 text and is one passage; scores come from `fake_vector`, so texts that share words are
near. Files are ``in_progress`` for as long as `FakeRetriever.hold` is set. ``tests/contract/retriever`` proves it equal
to the real one in shape and errors.
"""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from cloister_common.app import create_base_app
from cloister_common.caller import Caller, caller_of
from cloister_common.errors import CloisterError, NotFound, UnsupportedParameter
from cloister_common.ids import new_id
from cloister_common.internal import InternalTokens, tenant_of
from cloister_common.testing.retriever_answers import (
    Json,
    best_of,
    check_document,
    check_purpose,
    image_answer,
    missing_parameter,
    new_store,
    page_of,
    queries_of,
    read_answer,
    read_body,
    result_of,
    scorer_of,
)
from cloister_common.testing.retriever_parts import FakeParts
from cloister_common.testing.retriever_shelves import FakeShelves
from cloister_common.wire.pictures import media_type_of

__all__ = ["FakeRetriever"]

_CREATE_STORE = {"name", "description", "metadata", "file_ids", "chunking_strategy", "expires_after", "protection"}
_SEARCH = {"query", "max_num_results", "filters", "ranking_options"}


class FakeRetriever(FakeShelves):
    """The service; an ASGI application.

    Args:
        token: The internal token it asks for.

    Attributes:
        errors: Raised for the next calls, one each, before anything else.
        searches: Tenant and body of each search so far.
        parts: Parts of the results of batches that run.
        results: The file of each write of a batch's results so far.
        callers: Who each search of several stores was made for.
        may_search: While it is not set, searches of several stores are noted in ``callers`` and wait.
        may_write: While it is not set, writes of results are counted in ``writing`` and wait.
        gone_after_look: Planted stores that are gone as soon as somebody has looked whether they are there.
        refuse_status: If set, each search of several stores is answered with it.
    """

    def __init__(self, token: str | bytes) -> None:
        super().__init__()
        self.errors: list[CloisterError] = []
        self.searches: list[tuple[str, Json]] = []
        self.parts = FakeParts()
        self.results: list[str] = []
        self.callers: list[Caller] = []
        self.may_search = threading.Event()
        self.may_search.set()
        self.may_write = threading.Event()
        self.may_write.set()
        self.writing = 0
        self.gone_after_look: set[str] = set()
        self.refuse_status: int | None = None
        self._tokens = InternalTokens([token.encode() if isinstance(token, str) else token])
        self._app = self._make_app()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _make_app(self) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            yield

        app = create_base_app(
            title="fake-retriever", lifespan=lifespan, checks=lambda _: {}, max_body_bytes=64 * 1024 * 1024
        )
        router = APIRouter(dependencies=[Depends(self._guard)])
        store, file = "/v1/vector_stores/{store_id}", "/v1/vector_stores/{store_id}/files/{file_id}"
        batch = "/v1/vector_stores/{store_id}/file_batches/{batch_id}"
        routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("POST", "/v1/files", self._upload),
            ("GET", "/v1/files", self._list_files),
            ("GET", "/v1/files/{file_id}", self._get_file),
            ("DELETE", "/v1/files/{file_id}", self._delete_file),
            ("GET", "/v1/files/{file_id}/content", self._file_content),
            ("PUT", "/internal/files/{file_id}", self._write_result),
            ("POST", "/v1/vector_stores", self._create_store),
            ("GET", "/v1/vector_stores", self._list_stores),
            ("GET", store, self._get_store),
            ("POST", store, self._update_store),
            ("DELETE", store, self._delete_store),
            ("POST", f"{store}/files", self._attach),
            ("GET", f"{store}/files", self._list_attached),
            ("GET", file, self._get_attached),
            ("POST", file, self._update_attached),
            ("DELETE", file, self._detach),
            ("GET", f"{file}/content", self._text),
            ("GET", f"{file}/images/{{number}}", self._picture),
            ("POST", f"{store}/file_batches", self._create_batch),
            ("GET", batch, self._get_batch),
            ("POST", f"{batch}/cancel", self._cancel_batch),
            ("GET", f"{batch}/files", self._list_batch),
            ("POST", f"{store}/search", self._search_store),
            *self.parts.routes(),
            ("POST", "/internal/search", self._search_stores),
            ("POST", "/internal/read", self._read),
            ("POST", "/internal/image", self._image),
        ]
        for method, path, handler in routes:
            router.add_api_route(path, handler, methods=[method], response_model=None)
        app.include_router(router)
        return app

    def _guard(self, request: Request) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self._tokens.require(request)
        tenant_of(request)

    # Files

    async def _upload(self, request: Request) -> Json:
        async with request.form() as form:
            content, purpose, access = form.get("file"), form.get("purpose"), form.get("access")
            if not isinstance(content, UploadFile):
                raise missing_parameter("file")
            name, data = content.filename, await content.read()
        check_purpose(purpose)
        file: Json = {
            "id": new_id("file-"),
            "bytes": len(data),
            "created_at": int(time.time()),
            "filename": name,
            "object": "file",
            "purpose": purpose,
            "status": "processed",
        }
        if isinstance(access, str):
            self.lists.put(request, file["id"], orjson.loads(access))
        self._files.setdefault(tenant_of(request), {})[file["id"]] = (file, data)
        self._note_made(f"files of {tenant_of(request)}", file["id"])
        return {**file, **self.lists.shown(request, file["id"])}

    async def _list_files(self, request: Request) -> Json:
        purpose = request.query_params.get("purpose")
        stored = [file for file, _ in self._files.get(tenant_of(request), {}).values()]
        files = [file for file in stored if not self.lists.is_hidden(request, file["id"])]
        return page_of(
            [file for file in files if purpose in {None, file["purpose"]}],
            request,
            self._made.get(f"files of {tenant_of(request)}", []),
        )

    async def _get_file(self, request: Request, file_id: str) -> Json:
        return {**self._file(request, file_id)[0], **self.lists.shown(request, file_id)}

    async def _file_content(self, request: Request, file_id: str) -> Response:
        content, media_type = self._file(request, file_id)[1], "application/octet-stream"
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if asked is None:
            return Response(content, media_type=media_type)
        start, stop = int(asked[1]), min(len(content), int(asked[2]) + 1)
        if start >= stop and content:
            return Response(status_code=416)
        status = 200 if stop - start == len(content) else 206
        return Response(content[start:stop], status_code=status, media_type=media_type)

    async def _write_result(self, request: Request, file_id: str) -> Json:
        query = request.query_params
        if not self.may_write.is_set():
            self.writing += 1
            await asyncio.to_thread(self.may_write.wait)
        name, data, made = query["name"], await request.body(), int(file_id[5:21], 16) // 10**9
        file: Json = {
            "id": file_id,
            "bytes": len(data),
            "created_at": made,
            "filename": name,
            "object": "file",
            "purpose": "batch_output",
            "status": "processed",
        }
        if "seconds" in query:
            file["expires_at"] = made + int(query["seconds"])
        self.results.append(file_id)
        self.lists.inherit(request, file_id, query["like"])
        if file_id not in self._files.setdefault(tenant_of(request), {}):
            self._note_made(f"files of {tenant_of(request)}", file_id)
        self._files[tenant_of(request)][file_id] = (file, data)
        return file

    async def _delete_file(self, request: Request, file_id: str) -> Json:
        self._file(request, file_id)
        self.lists.change(request, file_id)
        del self._files[tenant_of(request)][file_id]
        for store_id in self._stores.get(tenant_of(request), {}):
            self._attached[store_id].pop(file_id, None)
        return {"id": file_id, "deleted": True, "object": "file"}

    # Vector stores

    async def _create_store(self, request: Request) -> Json:
        body = await read_body(request, _CREATE_STORE)
        for file_id in body.get("file_ids") or []:
            check_document(self._file(request, file_id, "file_id")[0])
        store = new_store(new_id("vs_"), body)
        self._stores.setdefault(tenant_of(request), {})[store["id"]] = store
        self._note_made(f"stores of {tenant_of(request)}", store["id"])
        self._attached[store["id"]] = {}
        for file_id in body.get("file_ids") or []:
            self._put(store["id"], {"file_id": file_id})
        return self._wire(store)

    async def _list_stores(self, request: Request) -> Json:
        stores = [self._wire(store) for store in self._stores.get(tenant_of(request), {}).values()]
        return page_of(stores, request, self._made.get(f"stores of {tenant_of(request)}", []))

    async def _get_store(self, request: Request, store_id: str) -> Json:
        found = self._wire(self._store(request, store_id))
        if store_id in self.gone_after_look:
            del self.planted[store_id]
        return found

    async def _update_store(self, request: Request, store_id: str) -> Json:
        store = self._store(request, store_id)
        store.update(await read_body(request, {"name", "metadata", "expires_after"}))
        return self._wire(store)

    async def _delete_store(self, request: Request, store_id: str) -> Json:
        self._store(request, store_id)
        del self._stores[tenant_of(request)][store_id], self._attached[store_id]
        return {"id": store_id, "deleted": True, "object": "vector_store.deleted"}

    # Files in vector stores

    async def _attach(self, request: Request, store_id: str) -> Json:
        self._store(request, store_id)
        body = await read_body(request, {"file_id", "attributes", "chunking_strategy", "access"})
        self._admit(request, body)
        return {**self._settled(self._put(store_id, body)), **self.lists.shown(request, body["file_id"])}

    async def _list_attached(self, request: Request, store_id: str) -> Json:
        self._store(request, store_id)
        return self._filtered(request, list(self._attached[store_id].values()), self._made.get(store_id, []))

    async def _get_attached(self, request: Request, store_id: str, file_id: str) -> Json:
        return {**self._settled(self._attachment(request, store_id, file_id)), **self.lists.shown(request, file_id)}

    async def _update_attached(self, request: Request, store_id: str, file_id: str) -> Json:
        attached = self._attachment(request, store_id, file_id)
        body = await read_body(request, {"attributes", "access"})
        self.lists.change(request, file_id)
        if "access" in body:
            self.lists.put(request, file_id, body["access"])
        if "attributes" in body:
            attached["attributes"] = body["attributes"] or {}
        return {**self._settled(attached), **self.lists.shown(request, file_id)}

    async def _detach(self, request: Request, store_id: str, file_id: str) -> Json:
        self._attachment(request, store_id, file_id)
        self.lists.change(request, file_id)
        del self._attached[store_id][file_id]
        return {"id": file_id, "deleted": True, "object": "vector_store.file.deleted"}

    async def _text(self, request: Request, store_id: str, file_id: str) -> Json:
        self._attachment(request, store_id, file_id)
        text = self._file(request, file_id)[1].decode("utf-8", "replace")
        return {
            "object": "vector_store.file_content.page",
            "data": [{"type": "text", "text": text}],
            "has_more": False,
            "next_page": None,
        }

    async def _picture(self, request: Request, store_id: str, file_id: str, number: int) -> Response:
        self._attachment(request, store_id, file_id)
        content = self._file(request, file_id)[1]
        kind = media_type_of(content)
        if kind is None or number:
            raise NotFound(f"The file '{file_id}' has no picture {number} in this vector store.", code="no_content")
        return Response(content, media_type=kind)

    # Batches

    async def _create_batch(self, request: Request, store_id: str) -> Json:
        self._store(request, store_id)
        body = await read_body(request, {"file_ids", "files", "attributes", "chunking_strategy", "access"})
        shared = {"attributes": body.get("attributes"), "access": body.get("access")}
        entries = body.get("files") or [{"file_id": file_id, **shared} for file_id in body.get("file_ids") or []]
        for entry in entries:
            self._admit(request, entry)
        for entry in entries:
            self._put(store_id, entry)
        batch_id = new_id("vsfb_")
        self._batches[batch_id] = (store_id, [entry["file_id"] for entry in entries])
        return self._batch_wire(batch_id)

    async def _get_batch(self, request: Request, store_id: str, batch_id: str) -> Json:
        self._batch(request, store_id, batch_id)
        return self._batch_wire(batch_id)

    async def _cancel_batch(self, request: Request, store_id: str, batch_id: str) -> Json:
        for file_id in self._batch(request, store_id, batch_id):
            if self._settled(self._attached[store_id][file_id])["status"] == "in_progress":
                self._attached[store_id][file_id]["status"] = "cancelled"
        return self._batch_wire(batch_id)

    async def _list_batch(self, request: Request, store_id: str, batch_id: str) -> Json:
        members = self._batch(request, store_id, batch_id)
        files = [self._attached[store_id][file_id] for file_id in members]
        return self._filtered(request, files, self._batches[batch_id][1])

    # Search

    async def _search_store(self, request: Request, store_id: str) -> Json:
        self._store(request, store_id)
        body = await read_body(request, _SEARCH | {"rewrite_query"})
        if body.get("rewrite_query"):
            raise UnsupportedParameter("rewrite_query")
        found = self._found(request, [store_id], body)
        return {
            "object": "vector_store.search_results.page",
            "search_query": queries_of(body),
            "data": [{key: value for key, value in one.items() if key != "vector_store_id"} for one in found],
            "has_more": False,
            "next_page": None,
        }

    async def _search_stores(self, request: Request) -> Json | Response:
        body = await read_body(request, _SEARCH | {"vector_store_ids"})
        self.callers.append(caller_of(request))
        if not self.may_search.is_set():
            await asyncio.to_thread(self.may_search.wait)
        store_ids = body.get("vector_store_ids")
        if not store_ids:
            raise missing_parameter("vector_store_ids")
        for store_id in store_ids:
            self._store(request, store_id, "vector_store_ids")
        found = self._found(request, store_ids, body)
        if self.refuse_status is not None:
            return JSONResponse({"error": {"message": "refused as the test asked"}}, self.refuse_status)
        return {"data": found}

    async def _read(self, request: Request) -> Json:
        file_id, name = request.query_params.get("file_id"), request.query_params.get("name")
        if file_id is None:
            return read_answer(None, name, await request.body())
        file, content = self._file(request, file_id, "file_id")
        return read_answer(file_id, file["filename"], content)

    async def _image(self, request: Request) -> Json:
        file_id = request.query_params.get("file_id")
        if file_id is None:
            return image_answer(None, await request.body())
        _, content = self._file(request, file_id, "file_id")
        return image_answer(file_id, content)

    def _found(self, request: Request, store_ids: list[str], body: Json) -> list[Json]:
        self.searches.append((tenant_of(request), body))
        score = scorer_of(body)
        results = []
        for store_id in store_ids:
            results += [{**one, "vector_store_id": store_id} for one in self.planted.get(store_id, [])]
            for file_id, attached in self._attached.get(store_id, {}).items():
                if self._settled(attached)["status"] != "completed" or self.lists.is_hidden(request, file_id):
                    continue
                file, data = self._file(request, file_id)
                text = data.decode("utf-8", "replace")
                results.append(result_of(store_id, attached, file, text, score(text)))
        return best_of(results, body)
