"""``/v1/vector_stores/{id}/files`` and ``…/file_batches`` in OpenAI's shape."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from cloister_common.vault import DataKey
from fastapi import APIRouter, Depends, Query, Response
from openai.types.vector_stores import VectorStoreFileDeleted

from cloister_retriever.access import Paid, Tenant, room
from cloister_retriever.audience.requests import Sighted
from cloister_retriever.pages import Wire, wire_page
from cloister_retriever.vector_stores.admission import admit
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.batches import BatchService
from cloister_retriever.vector_stores.progress import poll_after_ms, progress_of, progress_of_all
from cloister_retriever.vector_stores.records import Attached, BatchRecord
from cloister_retriever.vector_stores.schemas import AttachFile, CreateBatch, FilesInStoreQuery, UpdateAttributes
from cloister_retriever.vector_stores.service import VectorStoreService

__all__ = ["router"]

router = APIRouter(prefix="/v1/vector_stores/{store_id}", route_class=JsonRoute)

Stores = Annotated[VectorStoreService, Depends(provided(VectorStoreService))]
Attachments = Annotated[AttachmentService, Depends(provided(AttachmentService))]
Batches = Annotated[BatchService, Depends(provided(BatchService))]


@router.post("/files", dependencies=[Depends(room)])
async def attach_file(
    store_id: str,
    body: AttachFile,
    tenant: Tenant,
    sight: Sighted,
    payer: Paid,
    stores: Stores,
    attachments: Attachments,
    response: Response,
) -> Wire:
    store = await stores.open(tenant, store_id)
    await admit(sight, tenant, attachments, [body])
    attached = await attachments.attach(tenant, store_id, store.key, body, payer)
    shown = await _followed(attachments, tenant, store.key, attached, response)
    return {**shown, **sight.shown(await sight.see(body.file_id))}


@router.get("/files")
async def list_files(
    store_id: str,
    tenant: Tenant,
    sight: Sighted,
    stores: Stores,
    attachments: Attachments,
    query: Annotated[FilesInStoreQuery, Query()],
) -> Wire:
    store = await stores.get(tenant, store_id)
    hidden = await sight.hidden()
    page, has_more = await attachments.page(tenant, store_id, store.key, query, hidden=hidden)
    progress = await attachments.progress(tenant, store_id, store.key, page)
    return wire_page([{**file.wire(), **progress_of(file, progress)} for file in page], has_more=has_more)


@router.get("/files/{file_id}")
async def retrieve_file(
    store_id: str,
    file_id: str,
    tenant: Tenant,
    sight: Sighted,
    stores: Stores,
    attachments: Attachments,
    response: Response,
) -> Wire:
    store = await stores.get(tenant, store_id)
    access = await sight.see(file_id)
    attached = await attachments.get(tenant, store_id, store.key, file_id)
    return {**await _followed(attachments, tenant, store.key, attached, response), **sight.shown(access)}


@router.post("/files/{file_id}")
async def update_file(
    store_id: str,
    file_id: str,
    body: UpdateAttributes,
    tenant: Tenant,
    sight: Sighted,
    payer: Paid,
    stores: Stores,
    attachments: Attachments,
) -> Wire:
    store = await stores.get(tenant, store_id)
    await sight.change(file_id)
    attached = await attachments.get(tenant, store_id, store.key, file_id)
    if "access" in body.model_fields_set:
        await sight.put({file_id: sight.listed(file_id, await sight.see(file_id), body.access)})
    if "attributes" in body.model_fields_set:
        attached = await attachments.set_attributes(tenant, store_id, store.key, file_id, body.attributes, payer)
    progress = await attachments.progress(tenant, store_id, store.key, [attached])
    return {**attached.wire(), **progress_of(attached, progress), **sight.shown(await sight.see(file_id))}


@router.delete("/files/{file_id}")
async def detach_file(
    store_id: str, file_id: str, tenant: Tenant, sight: Sighted, stores: Stores, attachments: Attachments
) -> Wire:
    store = await stores.get(tenant, store_id)
    await sight.change(file_id)
    await attachments.detach(tenant, store_id, store.key, file_id)
    deleted = VectorStoreFileDeleted(id=file_id, deleted=True, object="vector_store.file.deleted")
    return deleted.model_dump(mode="json")


@router.get("/files/{file_id}/content")
async def file_text(
    store_id: str, file_id: str, tenant: Tenant, sight: Sighted, stores: Stores, attachments: Attachments
) -> Wire:
    store = await stores.get(tenant, store_id)
    await sight.see(file_id)
    chunks = await attachments.text(tenant, store_id, store.key, file_id)
    text = b"".join([chunk async for chunk in chunks]).decode()
    return {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": text}],
        "has_more": False,
        "next_page": None,
    }


@router.post("/file_batches", dependencies=[Depends(room)])
async def create_batch(
    store_id: str,
    body: CreateBatch,
    tenant: Tenant,
    sight: Sighted,
    payer: Paid,
    stores: Stores,
    attachments: Attachments,
    batches: Batches,
    response: Response,
) -> Wire:
    store = await stores.open(tenant, store_id)
    await admit(sight, tenant, attachments, body.entries())
    record, files = await batches.create(tenant, store_id, store.key, body, payer)
    return await _followed_batch(attachments, tenant, store.key, record, files, response)


@router.get("/file_batches/{batch_id}")
async def retrieve_batch(
    store_id: str,
    batch_id: str,
    tenant: Tenant,
    stores: Stores,
    attachments: Attachments,
    batches: Batches,
    response: Response,
) -> Wire:
    store = await stores.get(tenant, store_id)
    record = await batches.get(tenant, store_id, store.key, batch_id)
    files = await batches.files(tenant, store.key, record)
    return await _followed_batch(attachments, tenant, store.key, record, files, response)


@router.post("/file_batches/{batch_id}/cancel")
async def cancel_batch(
    store_id: str,
    batch_id: str,
    tenant: Tenant,
    sight: Sighted,
    stores: Stores,
    attachments: Attachments,
    batches: Batches,
    response: Response,
) -> Wire:
    store = await stores.get(tenant, store_id)
    record = await batches.get(tenant, store_id, store.key, batch_id)
    await sight.change_all([member.file_id for member in record.members])
    await batches.cancel(tenant, store.key, record)
    files = await batches.files(tenant, store.key, record)
    return await _followed_batch(attachments, tenant, store.key, record, files, response)


@router.get("/file_batches/{batch_id}/files")
async def list_batch_files(
    store_id: str,
    batch_id: str,
    tenant: Tenant,
    sight: Sighted,
    stores: Stores,
    attachments: Attachments,
    batches: Batches,
    query: Annotated[FilesInStoreQuery, Query()],
) -> Wire:
    store = await stores.get(tenant, store_id)
    record = await batches.get(tenant, store_id, store.key, batch_id)
    page, has_more = await batches.page(tenant, store.key, record, query, hidden=await sight.hidden())
    progress = await attachments.progress(tenant, store_id, store.key, page)
    return wire_page([{**file.wire(), **progress_of(file, progress)} for file in page], has_more=has_more)


async def _followed(
    attachments: AttachmentService, tenant: str, key: DataKey, file: Attached, response: Response
) -> Wire:
    """A file with how far it is, and in the header when to ask again."""
    progress = await attachments.progress(tenant, file.record.store_id, key, [file])
    response.headers.update(poll_after_ms([file], progress))
    return {**file.wire(), **progress_of(file, progress)}


async def _followed_batch(
    attachments: AttachmentService,
    tenant: str,
    key: DataKey,
    record: BatchRecord,
    files: list[Attached],
    response: Response,
) -> Wire:
    """A batch with how far its files are, and in the header when to ask again."""
    progress = await attachments.progress(tenant, record.store_id, key, files)
    response.headers.update(poll_after_ms(files, progress))
    return {**record.wire(files).model_dump(mode="json"), **progress_of_all(files, progress)}
