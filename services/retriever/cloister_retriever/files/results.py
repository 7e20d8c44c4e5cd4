"""``PUT /internal/files/{id}``: what became of a batch, written by the gateway as a file of the caller's project."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.errors import InvalidRequest
from fastapi import APIRouter, Depends, Query, Request

from cloister_retriever.access import Tenant, room
from cloister_retriever.audience.requests import Sighted
from cloister_retriever.files.schemas import BATCH_OUTPUT, wire_fields
from cloister_retriever.files.service import FileDraft, FileService, clean_name
from cloister_retriever.identifiers import FILE_PREFIX, check_id, place_in
from cloister_retriever.pages import Wire

__all__ = ["router"]

router = APIRouter()

Files = Annotated[FileService, Depends(provided(FileService))]


@router.put("/internal/files/{file_id}", dependencies=[Depends(room)])
async def write_result(
    file_id: str,
    request: Request,
    tenant: Tenant,
    sight: Sighted,
    files: Files,
    name: str,
    like: str,
    seconds: Annotated[int | None, Query(ge=1)] = None,
) -> Wire:
    """Stores the body as the file of that id, which says when it was made. Written again it is the same file.

    ``like`` is the file it was made from: who sees that one sees this one. ``seconds`` after it was made it expires.
    """
    if place_in(check_id(FILE_PREFIX, file_id)) is None:
        raise InvalidRequest("The id must say when the file was made.", param="file_id")
    check_id(FILE_PREFIX, like, param="like")
    # Before the file is there: nobody else ever sees it.
    await sight.inherit(file_id, like, is_there=await files.is_there(tenant, like))
    draft = FileDraft(file_id, clean_name(name), BATCH_OUTPUT, seconds)
    # (What a body that breaks off has begun is left: the batch is not over before its files are whole.)
    return wire_fields(await files.assemble(tenant, draft, request.stream()))
