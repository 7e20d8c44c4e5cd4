"""``POST /cloister/v1/plans/usage``: plans, for whoever has a key. Nothing is stored and no model is asked.

``…/usage/observed`` plans from the ledger of all projects, for administration keys.
"""

import time
from collections.abc import Sequence
from typing import Annotated, Literal

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import ADMIN_SCOPE
from cloister_gateway.planning.observed import ObservedQuestion, observe, observed_json
from cloister_gateway.planning.picture import draw
from cloister_gateway.planning.plan import plan_json, plan_usage
from cloister_gateway.planning.question import UsageQuestion
from cloister_gateway.usage.queries import Bucket
from cloister_gateway.usage.queries import Query as UsageQuery
from cloister_gateway.usage.service import UsageService
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter(
    prefix="/cloister/v1/plans", route_class=JsonRoute, dependencies=[Depends(require("models", ADMIN_SCOPE))]
)


@router.post("/usage")
def usage(
    body: UsageQuestion, request: Request, format: Annotated[Literal["json", "svg"], Query()] = "json"
) -> Response:
    """The plan as JSON, or as a picture. (In a thread: a conversation may have a thousand turns.)"""
    only_query(request, {"format"})
    plan = plan_usage(body)
    if format == "svg":
        return Response(draw(plan), media_type="image/svg+xml")
    return JSONResponse(plan_json(plan))


@router.post("/usage/observed", dependencies=[Depends(require(ADMIN_SCOPE))])
async def observed(
    body: ObservedQuestion,
    request: Request,
    ledger: Annotated[UsageService, Depends(provided(UsageService))],
    format: Annotated[Literal["json", "svg"], Query()] = "json",
) -> Response:
    """The same from what was used in the last thirty days, with the error of the forecast of a week ago."""
    only_query(request, {"format"})

    async def buckets(query: UsageQuery) -> Sequence[Bucket]:
        found, _ = await ledger.of_projects(query, ())
        return found

    plan = await observe(body, buckets, int(time.time()))
    if format == "svg":
        return Response(draw(plan.plan), media_type="image/svg+xml")
    return JSONResponse(observed_json(plan))
