"""The search of one store in OpenAI's shape, and the gateway's search over several."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from cloister_common.wire.search import InternalSearch, SearchRequest, StoreSearch
from fastapi import APIRouter, Depends

from cloister_retriever.access import Tenant
from cloister_retriever.audience.requests import Sighted
from cloister_retriever.audience.service import Sight
from cloister_retriever.pages import Wire
from cloister_retriever.search.service import SearchService

__all__ = ["router"]

router = APIRouter(route_class=JsonRoute)

Search = Annotated[SearchService, Depends(provided(SearchService))]


@router.post("/v1/vector_stores/{store_id}/search")
async def search_store(store_id: str, body: StoreSearch, tenant: Tenant, sight: Sighted, search: Search) -> Wire:
    await _see_asked(body, sight)
    results = await search.search(tenant, [store_id], body, hidden=await sight.hidden())
    return {
        "object": "vector_store.search_results.page",
        "search_query": body.queries,
        "data": [result.wire(with_store=False) for result in results],
        "has_more": False,
        "next_page": None,
    }


@router.post("/internal/search")
async def search_stores(body: InternalSearch, tenant: Tenant, sight: Sighted, search: Search) -> Wire:
    await _see_asked(body, sight)
    hidden = await sight.hidden()
    results = await search.search(tenant, body.vector_store_ids, body, hidden=hidden, param="vector_store_ids")
    return {"data": [result.wire(with_store=True) for result in results]}


async def _see_asked(body: SearchRequest, sight: Sight) -> None:
    """Raises `NotFound` where somebody asks with a picture that is not theirs to see."""
    for param, query in body.pictures:
        if query.file_id is not None:
            await sight.see(query.file_id, param=param)
