"""``/cloister/v1/adapters``: fine-tuned models, for administration keys only."""

from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends, Request

from cloister_gateway.identity.guard import LET_END, require
from cloister_gateway.identity.principal import ADMIN_SCOPE
from cloister_gateway.models.adapters.records import AdapterRecord
from cloister_gateway.models.adapters.schemas import AdapterCreate, adapter_body
from cloister_gateway.models.adapters.service import Adapters
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(prefix="/cloister/v1/adapters", dependencies=[Depends(require(ADMIN_SCOPE))], route_class=JsonRoute)

Service = Annotated[Adapters, Depends(provided(Adapters))]
Body = dict[str, Any]


@router.post("", dependencies=[LET_END])
async def serve_adapter(body: AdapterCreate, request: Request, adapters: Service) -> Body:
    """Serves an adapter, a new version of one, or a version with another share."""
    only_query(request, ())
    return _shown(await adapters.put(body), adapters)


@router.get("")
async def list_adapters(request: Request, adapters: Service) -> Body:
    """All adapters, oldest first."""
    only_query(request, ())
    return {"object": "list", "data": [_shown(record, adapters) for record in await adapters.all()], "has_more": False}


@router.get("/{name}")
async def retrieve_adapter(name: str, request: Request, adapters: Service) -> Body:
    """One adapter."""
    only_query(request, ())
    return _shown(await adapters.get(name), adapters)


@router.delete("/{name}", dependencies=[LET_END])
async def remove_adapter(name: str, request: Request, adapters: Service) -> Body:
    """Ends an adapter: running answers are finished, new ones are refused."""
    only_query(request, ())
    await adapters.remove(name)
    return {"id": name, "object": "adapter.deleted", "deleted": True}


def _shown(record: AdapterRecord, adapters: Adapters) -> Body:
    return adapter_body(record, {version.digest: adapters.pods(record, version) for version in record.versions})
