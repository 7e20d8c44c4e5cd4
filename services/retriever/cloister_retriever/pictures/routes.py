"""``GET /v1/vector_stores/{id}/files/{file_id}/images/{number}``: a picture of a file, as a hit names it."""

from typing import Annotated

from cloister_common.access import provided
from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from cloister_retriever.access import Tenant
from cloister_retriever.audience.requests import Sighted
from cloister_retriever.pictures.service import PictureService
from cloister_retriever.vector_stores.service import VectorStoreService

__all__ = ["router"]

router = APIRouter()

_ENDINGS = {"image/png": "png", "image/jpeg": "jpg"}
_HEADERS = {
    # It is a PNG or JPEG that this service wrote. A browser that is shown it directly may do nothing else with it, and
    # nothing on the way keeps it: who may see a file can change.
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "cache-control": "private, no-store",
}


@router.get("/v1/vector_stores/{store_id}/files/{file_id}/images/{number}")
async def picture(
    store_id: str,
    file_id: str,
    number: Annotated[int, Path(ge=0, le=1_000_000)],
    tenant: Tenant,
    sight: Sighted,
    stores: Annotated[VectorStoreService, Depends(provided(VectorStoreService))],
    pictures: Annotated[PictureService, Depends(provided(PictureService))],
) -> Response:
    store = await stores.get(tenant, store_id)
    await sight.see(file_id)
    found = await pictures.get(tenant, store_id, store.key, file_id, number)
    name = f"{file_id}-{number}.{_ENDINGS[found.media_type]}"
    headers = {**_HEADERS, "content-disposition": f'inline; filename="{name}"'}
    return Response(found.content, media_type=found.media_type, headers=headers)
