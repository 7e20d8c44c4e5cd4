"""``/v1/uploads`` in OpenAI's shape."""

from typing import Annotated, TypeVar

from cloister_common.access import provided
from cloister_common.errors import PayloadTooLarge
from cloister_common.wire.requests import RequestModel, parse_request
from fastapi import APIRouter, Depends, Request

from cloister_retriever.access import Tenant, room
from cloister_retriever.audience.requests import Sighted
from cloister_retriever.files.upload import MultipartUpload
from cloister_retriever.pages import Wire
from cloister_retriever.uploads.schemas import CompleteUpload, CreateUpload
from cloister_retriever.uploads.service import UploadService

__all__ = ["router"]

router = APIRouter(prefix="/v1/uploads")

Uploads = Annotated[UploadService, Depends(provided(UploadService))]
M = TypeVar("M", bound=RequestModel)

_MOST_JSON_BYTES = 256 * 1024
"""A thousand part ids are 60 KB. The application's limit of these paths is that of a part."""


@router.post("", dependencies=[Depends(room)])
async def create_upload(request: Request, tenant: Tenant, sight: Sighted, uploads: Uploads) -> Wire:
    return (await uploads.create(tenant, await _body(request, CreateUpload), sight)).model_dump(mode="json")


@router.post("/{upload_id}/parts", dependencies=[Depends(room)])
async def add_part(upload_id: str, request: Request, tenant: Tenant, sight: Sighted, uploads: Uploads) -> Wire:
    form = MultipartUpload(request.headers.get("content-type", ""), aiter(request.stream()), file_field="data")
    return (await uploads.add_part(tenant, upload_id, form, sight)).model_dump(mode="json")


@router.post("/{upload_id}/complete", dependencies=[Depends(room)])
async def complete_upload(upload_id: str, request: Request, tenant: Tenant, sight: Sighted, uploads: Uploads) -> Wire:
    upload = await uploads.complete(tenant, upload_id, await _body(request, CompleteUpload), sight)
    wire = upload.model_dump(mode="json")
    if upload.file is not None:
        wire["file"] |= sight.shown(await sight.see(upload.file.id))
    return wire


@router.post("/{upload_id}/cancel")
async def cancel_upload(upload_id: str, tenant: Tenant, sight: Sighted, uploads: Uploads) -> Wire:
    return (await uploads.cancel(tenant, upload_id, sight)).model_dump(mode="json")


async def _body(request: Request, model: type[M]) -> M:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MOST_JSON_BYTES:
            raise PayloadTooLarge(f"The request body is over the limit of {_MOST_JSON_BYTES} bytes. Send less.")
    return parse_request(model, bytes(raw))
