"""Usage and costs over HTTP: OpenAI's admin routes, and a caller's own. ``Accept: text/csv`` gives a table."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import orjson
from cloister_common.access import provided
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from cloister_gateway.identity.guard import require
from cloister_gateway.identity.principal import ADMIN_SCOPE, Principal
from cloister_gateway.usage.costs import costs_results
from cloister_gateway.usage.queries import Bucket, Group
from cloister_gateway.usage.records import KINDS, Numbers, Sum
from cloister_gateway.usage.schemas import (
    GROUPS,
    LISTS,
    SINGLE,
    completions_result,
    embeddings_result,
    page_body,
    projects_of,
    query_of,
    table,
    vector_stores_result,
)
from cloister_gateway.usage.service import UsageService
from cloister_gateway.wire.query import only_query

__all__ = ["router"]

router = APIRouter()

ADMIN = Depends(require(ADMIN_SCOPE))
Usage = Annotated[UsageService, Depends(provided(UsageService))]

_QUERY = frozenset({*SINGLE, *LISTS, *(f"{name}[]" for name in LISTS)})
_OWN = frozenset({"bucket_width", "end_time", "limit", "models", "models[]", "page", "start_time"})
_COSTS = _QUERY - {"batch", "models", "models[]"}
_KEPT = frozenset({*SINGLE, "group_by", "group_by[]", "project_ids", "project_ids[]"}) - {"batch"}
_UNIT_COSTS = frozenset({"end_time", "limit", "project_ids", "project_ids[]", "start_time"})
_COST_GROUPS = ("project_id", "user_id", "api_key_id", "line_item")


@router.get("/v1/organization/usage/completions", dependencies=[ADMIN])
async def completions(request: Request, usage: Usage) -> Response:
    """What responses, chat completions and completions used."""
    only_query(request, _QUERY)
    query = query_of(request.query_params, ("response", "chat", "completions", "summary"), groups=(*GROUPS, "batch"))
    buckets, following = await usage.of_projects(query, projects_of(request.query_params))
    return _answer(request, page_body(_results(buckets, completions_result), following))


@router.get("/v1/organization/usage/embeddings", dependencies=[ADMIN])
async def embeddings(request: Request, usage: Usage) -> Response:
    """What embeddings, rerankings and ingestions of files used."""
    only_query(request, _QUERY - {"batch"})
    query = query_of(request.query_params, ("embeddings", "rerank", "ingestion"))
    buckets, following = await usage.of_projects(query, projects_of(request.query_params))
    return _answer(request, page_body(_results(buckets, embeddings_result), following))


@router.get("/v1/organization/usage/vector_stores", dependencies=[ADMIN])
async def vector_stores(request: Request, usage: Usage) -> Response:
    """The most that vector stores kept in each time."""
    only_query(request, _KEPT)
    query = query_of(request.query_params, (), groups=("project_id",))
    kept, following = await usage.kept(query, projects_of(request.query_params))
    results = [
        (one.start, one.end, [vector_stores_result(project, most) for project, most in one.bytes.items()])
        for one in kept
    ]
    return _answer(request, page_body(results, following))


@router.get("/v1/organization/costs", dependencies=[ADMIN])
async def costs(request: Request, usage: Usage) -> Response:
    """What all of it cost, by the prices that are set now."""
    only_query(request, _COSTS)
    asked = query_of(request.query_params, KINDS, groups=_COST_GROUPS)
    told, following = await usage.costs(asked, projects_of(request.query_params))
    currency = usage.tariff.currency
    results = [(one.start, one.end, costs_results(lines, asked.group_by, currency)) for one, lines in told]
    return _answer(request, page_body(results, following))


@router.get("/cloister/v1/usage/unit-costs", dependencies=[ADMIN])
async def unit_costs(request: Request, usage: Usage) -> Response:
    """What a million tokens cost each project, in use and with its share of pods that stood idle, by model."""
    only_query(request, _UNIT_COSTS)
    query = query_of(request.query_params, KINDS)
    found = await usage.unit_costs(query, projects_of(request.query_params))
    data = [
        {"object": "usage.unit_cost", "project_id": group.project_id, "model": group.model, **cost.body()}
        for group, cost in found.items()
    ]
    body = {"object": "list", "currency": usage.tariff.currency.lower(), "data": data}
    return Response(orjson.dumps(body), media_type="application/json")


@router.get("/cloister/v1/usage/me")
async def own(request: Request, caller: Annotated[Principal, Depends(require("models"))], usage: Usage) -> Response:
    """What the caller used itself, with all of its keys, by model."""
    only_query(request, _OWN)
    query = query_of(request.query_params, KINDS)._replace(group_by=("model",))
    buckets, following = await usage.of_caller(query, caller)
    return _answer(request, page_body(_results(buckets, _own_result), following))


def _results(
    buckets: Sequence[Bucket], result: Callable[[Group, Numbers], dict[str, Any]]
) -> list[tuple[int, int, list[dict[str, Any]]]]:
    return [(one.start, one.end, [result(group, used) for group, used in one.sums.items()]) for one in buckets]


def _own_result(group: Group, numbers: Numbers) -> dict[str, Any]:
    """``usage.result``, which is ours."""
    used = Sum(*numbers)
    return {
        "object": "usage.result",
        "model": group.model,
        "input_tokens": used.read,
        "input_cached_tokens": used.cached,
        "output_tokens": used.written,
        "reasoning_tokens": used.reasoning,
        "num_model_requests": used.requests,
    }


def _answer(request: Request, page: dict[str, Any]) -> Response:
    if "text/csv" in request.headers.get("accept", ""):
        return Response(table(page), media_type="text/csv")
    return Response(orjson.dumps(page), media_type="application/json")
