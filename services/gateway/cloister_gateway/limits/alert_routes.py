"""Spend alerts over HTTP, for administration keys only: OpenAI's ``spend_alerts`` of a project and the organization."""

from collections.abc import Callable
from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from fastapi import APIRouter, Depends, Query

from cloister_gateway.identity.guard import LET_END, require
from cloister_gateway.identity.principal import ADMIN_SCOPE
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.limits.administration import LimitAdministration
from cloister_gateway.limits.schemas import SpendAlertListQuery, SpendAlertUpdate, spend_alert_body
from cloister_gateway.organization.service import Directory
from cloister_gateway.wire.lists import page
from cloister_gateway.wire.query import DECLARED_QUERY

__all__ = ["router"]

router = APIRouter(
    prefix="/v1/organization", dependencies=[Depends(require(ADMIN_SCOPE)), DECLARED_QUERY], route_class=JsonRoute
)

Body = dict[str, Any]
Limits = Annotated[LimitAdministration, Depends(provided(LimitAdministration))]
Projects = Annotated[Directory, Depends(provided(Directory))]


async def _organization() -> str:
    return ORGANIZATION


async def _project(project_id: str, directory: Projects) -> str:
    return (await directory.project(project_id)).id


async def _active_project(project_id: str, directory: Projects) -> str:
    return (await directory.active_project(project_id)).id


def _add_routes(path: str, kind: str, seen: Callable[..., Any], changed: Callable[..., Any]) -> None:
    """The routes of one kind of owner: ``seen`` gives its name, ``changed`` that of one that may be changed."""
    seen_owner, changed_owner = Depends(seen), Depends(changed)

    async def list_alerts(
        query: Annotated[SpendAlertListQuery, Query()], limits: Limits, owner: str = seen_owner
    ) -> Body:
        bodies = [spend_alert_body(kind, alert, limits.currency) for alert in limits.spend_alerts(owner)]
        return page(bodies, limit=query.limit, order=query.order, after=query.after, before=query.before)

    async def create_alert(body: SpendAlertUpdate, limits: Limits, owner: str = changed_owner) -> Body:
        alert = await limits.set_spend_alert(owner, body.alert(), currency=body.currency)
        return spend_alert_body(kind, alert, limits.currency)

    async def retrieve_alert(alert_id: str, limits: Limits, owner: str = seen_owner) -> Body:
        return spend_alert_body(kind, limits.spend_alert(owner, alert_id), limits.currency)

    async def update_alert(alert_id: str, body: SpendAlertUpdate, limits: Limits, owner: str = changed_owner) -> Body:
        alert = await limits.set_spend_alert(owner, body.alert(alert_id), currency=body.currency)
        return spend_alert_body(kind, alert, limits.currency)

    async def delete_alert(alert_id: str, limits: Limits, owner: str = changed_owner) -> Body:
        await limits.delete_spend_alert(owner, alert_id)
        return {"object": f"{kind}.spend_alert.deleted", "id": alert_id, "deleted": True}

    one = f"{path}/{{alert_id}}"
    router.add_api_route(path, list_alerts, methods=["GET"])
    router.add_api_route(path, create_alert, methods=["POST"], dependencies=[LET_END])
    router.add_api_route(one, retrieve_alert, methods=["GET"])
    router.add_api_route(one, update_alert, methods=["POST"], dependencies=[LET_END])
    router.add_api_route(one, delete_alert, methods=["DELETE"], dependencies=[LET_END])


_add_routes("/spend_alerts", "organization", _organization, _organization)
_add_routes("/projects/{project_id}/spend_alerts", "project", _project, _active_project)
