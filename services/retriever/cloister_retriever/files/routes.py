"""``/v1/files`` in OpenAI's shape."""

import re
from collections.abc import AsyncIterator
from typing import Annotated

from cloister_common.access import provided
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from openai.types import FileDeleted

from cloister_retriever.access import Tenant, room
from cloister_retriever.audience.requests import Sighted
from cloister_retriever.files.schemas import FileRecord, FilesQuery, wire_fields
from cloister_retriever.files.service import FileService, FileUsers
from cloister_retriever.files.upload import MultipartUpload
from cloister_retriever.pages import Wire, wire_page

__all__ = ["router"]

router = APIRouter(prefix="/v1/files")

Files = Annotated[FileService, Depends(provided(FileService))]
Users = Annotated[FileUsers, Depends(provided(FileUsers))]

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


@router.post("", dependencies=[Depends(room)])
async def upload_file(request: Request, tenant: Tenant, sight: Sighted, files: Files) -> Wire:
    form = MultipartUpload(request.headers.get("content-type", ""), aiter(request.stream()))
    record = await files.upload(tenant, form, sight)
    return {**wire_fields(record), **sight.shown(await sight.see(record.id))}


@router.get("")
async def list_files(tenant: Tenant, sight: Sighted, files: Files, query: Annotated[FilesQuery, Query()]) -> Wire:
    records, has_more = await files.list(tenant, query, hidden=await sight.hidden())
    return wire_page([wire_fields(record) for record in records], has_more=has_more)


@router.get("/{file_id}")
async def retrieve_file(file_id: str, tenant: Tenant, sight: Sighted, files: Files) -> Wire:
    access = await sight.see(file_id)
    record = await files.describe(tenant, file_id)
    return {**wire_fields(record), **sight.shown(access)}


@router.delete("/{file_id}")
async def delete_file(file_id: str, tenant: Tenant, sight: Sighted, files: Files, users: Users) -> JSONResponse:
    await sight.change(file_id)
    await files.delete(tenant, file_id, users.detach_file)
    return JSONResponse(FileDeleted(id=file_id, deleted=True, object="file").model_dump(mode="json"))


@router.get("/{file_id}/content")
async def file_content(file_id: str, request: Request, tenant: Tenant, sight: Sighted, files: Files) -> Response:
    await sight.see(file_id)
    record = await files.get(tenant, file_id)
    start, stop = _range(request.headers.get("range"), record)
    if start >= stop and record.size:
        return Response(status_code=416, headers={"content-range": f"bytes */{record.size}"})
    chunks = files.content(tenant, record, start=start, stop=stop)
    # The first segment is opened before the status is sent: a content that does not open is a 500, not a cut 200.
    first = await anext(chunks, b"")
    headers = {"content-length": str(stop - start), "accept-ranges": "bytes", "x-content-type-options": "nosniff"}
    partial = (start, stop) != (0, record.size)
    if partial:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{record.size}"
    return StreamingResponse(
        _joined(first, chunks),
        status_code=206 if partial else 200,
        media_type="application/octet-stream",
        headers=headers,
    )


def _range(header: str | None, record: FileRecord) -> tuple[int, int]:
    """One range in RFC 9110's first form; anything else asks for the whole file, as the RFC allows."""
    asked = _RANGE.fullmatch(header or "")
    if asked is None:
        return 0, record.size
    stop = min(record.size, int(asked[2]) + 1) if asked[2] else record.size
    return int(asked[1]), stop


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
