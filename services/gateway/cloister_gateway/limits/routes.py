"""Limits over HTTP, for administration keys only: OpenAI's ``rate_limits`` of projects, and ``spend_limit``."""

from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends, Query

from cloister_gateway.identity.guard import LET_END, require
from cloister_gateway.identity.principal import ADMIN_SCOPE
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.limits.administration import LimitAdministration
from cloister_gateway.limits.schemas import (
    RATES,
    RateLimitListQuery,
    RateLimitUpdate,
    SpendLimitUpdate,
    rate_limit_body,
)
from cloister_gateway.organization.service import Directory
from cloister_gateway.wire.lists import page
from cloister_gateway.wire.query import DECLARED_QUERY

__all__ = ["router"]

router = APIRouter(
    prefix="/v1/organization", dependencies=[Depends(require(ADMIN_SCOPE)), DECLARED_QUERY], route_class=JsonRoute
)

Body = dict[str, Any]
Projects = Annotated[Directory, Depends(provided(Directory))]
Limits = Annotated[LimitAdministration, Depends(provided(LimitAdministration))]


@router.get("/projects/{project_id}/rate_limits")
async def list_rate_limits(
    project_id: str, query: Annotated[RateLimitListQuery, Query()], directory: Projects, limits: Limits
) -> Body:
    """The rates of a project, by model."""
    await directory.project(project_id)
    bodies = [rate_limit_body(model, limits.rates(project_id, model)) for model in limits.models(project_id)]
    return page(bodies, limit=query.limit, order="asc", after=query.after, before=query.before)


@router.post("/projects/{project_id}/rate_limits/{rate_limit_id:path}", dependencies=[LET_END])
async def update_rate_limit(
    project_id: str, rate_limit_id: str, body: RateLimitUpdate, directory: Projects, limits: Limits
) -> Body:
    """Sets rates of a project for one model."""
    await directory.active_project(project_id)
    sent = body.model_dump(exclude_none=True)
    rates = {rate: sent[field] for field, rate in RATES.items() if field in sent}
    model = await limits.set_rates(project_id, rate_limit_id, rates)
    return rate_limit_body(model, limits.rates(project_id, model))


@router.get("/spend_limit")
async def retrieve_spend_limit(limits: Limits) -> Body:
    """What all projects together may spend in a month."""
    return await _spend_limit(limits, ORGANIZATION)


@router.post("/spend_limit", dependencies=[LET_END])
async def update_spend_limit(body: SpendLimitUpdate, limits: Limits) -> Body:
    """Sets what all projects together may spend in a month."""
    await limits.set_spend_limit(ORGANIZATION, body.threshold_amount, currency=body.currency)
    return await _spend_limit(limits, ORGANIZATION)


@router.delete("/spend_limit", dependencies=[LET_END])
async def delete_spend_limit(limits: Limits) -> Body:
    """Takes that limit away."""
    await limits.set_spend_limit(ORGANIZATION, None)
    return {"object": "organization.spend_limit.deleted", "deleted": True}


@router.get("/projects/{project_id}/spend_limit")
async def retrieve_project_spend_limit(project_id: str, directory: Projects, limits: Limits) -> Body:
    """What a project may spend in a month."""
    await directory.project(project_id)
    return await _spend_limit(limits, project_id)


@router.post("/projects/{project_id}/spend_limit", dependencies=[LET_END])
async def update_project_spend_limit(
    project_id: str, body: SpendLimitUpdate, directory: Projects, limits: Limits
) -> Body:
    """Sets what a project may spend in a month."""
    await directory.active_project(project_id)
    await limits.set_spend_limit(project_id, body.threshold_amount, currency=body.currency)
    return await _spend_limit(limits, project_id)


@router.delete("/projects/{project_id}/spend_limit", dependencies=[LET_END])
async def delete_project_spend_limit(project_id: str, directory: Projects, limits: Limits) -> Body:
    """Takes that limit away."""
    await directory.active_project(project_id)
    await limits.set_spend_limit(project_id, None)
    return {"object": "project.spend_limit.deleted", "deleted": True}


async def _spend_limit(limits: LimitAdministration, owner: str) -> Body:
    found = await limits.spend_limit(owner)
    return {
        "object": "organization.spend_limit" if owner == ORGANIZATION else "project.spend_limit",
        "currency": limits.currency,
        "interval": "month",
        "threshold_amount": found.hundredths,
        "enforcement": {"status": "enforcing" if found.reached else "inactive"},
    }
