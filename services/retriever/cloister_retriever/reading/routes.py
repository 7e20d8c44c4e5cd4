"""``POST /internal/read`` and ``/internal/image``: the text of a file, and an image, for the gateway's prompts."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.errors import InvalidRequest
from cloister_common.wire.images import Detail
from fastapi import APIRouter, Depends, Request

from cloister_retriever.access import Tenant
from cloister_retriever.audience.requests import Sighted
from cloister_retriever.pages import Wire
from cloister_retriever.reading.service import ReadingService

__all__ = ["router"]

router = APIRouter()

Reading = Annotated[ReadingService, Depends(provided(ReadingService))]


@router.post("/internal/read")
async def read_file(
    request: Request,
    tenant: Tenant,
    sight: Sighted,
    reading: Reading,
    file_id: str | None = None,
    name: str | None = None,
) -> Wire:
    """Of an uploaded file, or of the body, which has this name."""
    if (file_id is None) == (name is None):
        raise InvalidRequest("Send either 'file_id', or 'name' with the file as the body.", param="file_id")
    if file_id is not None:
        await sight.see(file_id, param="file_id")
        read = await reading.read_stored(tenant, file_id)
    else:
        read = await reading.read_sent(name or "", aiter(request.stream()))
    return read.model_dump()


@router.post("/internal/image")
async def read_image(
    request: Request,
    tenant: Tenant,
    sight: Sighted,
    reading: Reading,
    file_id: str | None = None,
    detail: Detail = "auto",
) -> Wire:
    """That an uploaded file is, or the body."""
    if file_id is not None:
        await sight.see(file_id, param="file_id")
        image = await reading.see_stored(tenant, file_id, detail)
    else:
        image = await reading.see_sent(aiter(request.stream()), detail)
    return image.model_dump()
