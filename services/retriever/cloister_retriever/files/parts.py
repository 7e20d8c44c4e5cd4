"""``/internal/batches/{id}/parts``: what became of lines of a batch that runs, kept for the gateway until it writes the
batch's files (`cloister_retriever.files.results`).

The gateway seals it, with the key of its batch: it is opaque here, and of no use to anybody once that key is destroyed.
"""

from typing import Annotated

from cloister_common.access import provided
from fastapi import APIRouter, Depends, Request, Response

from cloister_retriever.access import Tenant, room
from cloister_retriever.files.store import ResultPartStore
from cloister_retriever.identifiers import PART_PREFIX, REQUESTS_PREFIX, check_id, missing

__all__ = ["router"]

router = APIRouter(prefix="/internal/batches/{batch_id}/parts")

Parts = Annotated[ResultPartStore, Depends(provided(ResultPartStore))]


@router.put("/{part_id}", status_code=204, dependencies=[Depends(room)])
async def write_part(batch_id: str, part_id: str, request: Request, tenant: Tenant, parts: Parts) -> None:
    await parts.put(tenant, *_ids(batch_id, part_id), await request.body())


@router.get("/{part_id}")
async def read_part(batch_id: str, part_id: str, tenant: Tenant, parts: Parts) -> Response:
    found = await parts.get(tenant, *_ids(batch_id, part_id))
    if found is None:
        raise missing(PART_PREFIX, part_id)
    return Response(found, media_type="application/octet-stream")


@router.delete("", status_code=204)
async def drop_parts(batch_id: str, tenant: Tenant, parts: Parts) -> None:
    await parts.drop(tenant, check_id(REQUESTS_PREFIX, batch_id))


def _ids(batch_id: str, part_id: str) -> tuple[str, str]:
    return check_id(REQUESTS_PREFIX, batch_id), check_id(PART_PREFIX, part_id)
