"""``/v1/organization``: administration over HTTP, for administration keys only."""

from itertools import pairwise
from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from cloister_common.errors import InvalidRequest
from fastapi import APIRouter, Depends, Query

from cloister_gateway.identity.guard import LET_END, require
from cloister_gateway.identity.principal import ADMIN_SCOPE
from cloister_gateway.identity.records import ORGANIZATION
from cloister_gateway.organization.schemas import (
    AccountCreate,
    AdminKeyCreate,
    AdminKeyListQuery,
    KeyCreate,
    KeyListQuery,
    ListQuery,
    ProjectCreate,
    ProjectListQuery,
    ProjectUpdate,
    account_body,
    admin_key_body,
    issued_key_body,
    key_body,
    project_body,
)
from cloister_gateway.organization.service import Directory
from cloister_gateway.wire.lists import older_left, page
from cloister_gateway.wire.query import DECLARED_QUERY

__all__ = ["router"]

router = APIRouter(
    prefix="/v1/organization", dependencies=[Depends(require(ADMIN_SCOPE)), DECLARED_QUERY], route_class=JsonRoute
)


Body = dict[str, Any]
Admin = Annotated[Directory, Depends(provided(Directory))]


@router.post("/admin_api_keys", dependencies=[LET_END])
async def create_admin_key(body: AdminKeyCreate, directory: Admin) -> Body:
    """Issues an administration key; its value is shown here and never again."""
    issued = await directory.create_admin_key(body.name, expires_in_seconds=body.expires_in_seconds)
    return {**admin_key_body(issued.record), "value": issued.token}


@router.get("/admin_api_keys")
async def list_admin_keys(query: Annotated[AdminKeyListQuery, Query()], directory: Admin) -> Body:
    """Lists the administration keys."""
    bodies = [admin_key_body(record) for record in await directory.admin_keys()]
    gone = older_left(bodies, await directory.gone_keys(ORGANIZATION))
    return page(bodies, limit=query.limit, order=query.order, after=query.after, gone=gone)


@router.get("/admin_api_keys/{key_id}")
async def retrieve_admin_key(key_id: str, directory: Admin) -> Body:
    """One administration key."""
    return admin_key_body(await directory.key(ORGANIZATION, key_id))


@router.delete("/admin_api_keys/{key_id}", dependencies=[LET_END])
async def delete_admin_key(key_id: str, directory: Admin) -> Body:
    """Revokes an administration key."""
    await directory.revoke_key(ORGANIZATION, key_id)
    return {"id": key_id, "object": "organization.admin_api_key.deleted", "deleted": True}


@router.post("/projects", dependencies=[LET_END])
async def create_project(body: ProjectCreate, directory: Admin) -> Body:
    """Makes a project, that is, a tenant."""
    return project_body(await directory.create_project(body.name))


@router.get("/projects")
async def list_projects(query: Annotated[ProjectListQuery, Query()], directory: Admin) -> Body:
    """Lists the projects."""
    records = await directory.projects(include_archived=True)
    bodies = [project_body(record) for record in records if query.include_archived or record.archived_at is None]
    # Who archives while listing goes on from there.
    ids = ["", *(record.id for record in records)]
    shown = {body["id"] for body in bodies}
    hidden = {project_id: before for before, project_id in pairwise(ids) if project_id not in shown}
    gone = older_left(bodies, hidden)
    return page(bodies, limit=query.limit, order="asc", after=query.after, gone=gone)


@router.get("/projects/{project_id}")
async def retrieve_project(project_id: str, directory: Admin) -> Body:
    """One project."""
    return project_body(await directory.project(project_id))


@router.post("/projects/{project_id}", dependencies=[LET_END])
async def update_project(project_id: str, body: ProjectUpdate, directory: Admin) -> Body:
    """Renames a project."""
    return project_body(await directory.rename_project(project_id, body.name))


@router.post("/projects/{project_id}/archive", dependencies=[LET_END])
async def archive_project(project_id: str, directory: Admin) -> Body:
    """Archives a project: its keys open nothing any more."""
    return project_body(await directory.archive_project(project_id))


@router.post("/projects/{project_id}/service_accounts", dependencies=[LET_END])
async def create_account(project_id: str, body: AccountCreate, directory: Admin) -> Body:
    """Makes a service account and, unless told not to, its first key."""
    bare = bool(body.create_service_account_only)
    asked: Body = {"scopes": body.scopes, "user": body.user, "groups": body.groups}
    asked["expires_in_seconds"] = body.expires_in_seconds is not None
    param = next((name for name, value in asked.items() if value), None)
    if bare and param is not None:
        raise InvalidRequest(f"'{param}' is for a key, and 'create_service_account_only' asks for none.", param=param)
    account = await directory.create_account(project_id, body.name)
    issued = None
    if not bare:
        issued = await directory.create_key(
            account,
            body.name,
            scopes=body.scopes,
            expires_in_seconds=body.expires_in_seconds,
            user=body.user,
            groups=body.groups,
        )
    return {**account_body(account), "api_key": None if issued is None else issued_key_body(issued)}


@router.get("/projects/{project_id}/service_accounts")
async def list_accounts(project_id: str, query: Annotated[ListQuery, Query()], directory: Admin) -> Body:
    """Lists the service accounts of a project."""
    bodies = [account_body(record) for record in await directory.accounts(project_id)]
    gone = older_left(bodies, await directory.gone_accounts(project_id))
    return page(bodies, limit=query.limit, order="asc", after=query.after, gone=gone)


@router.get("/projects/{project_id}/service_accounts/{account_id}")
async def retrieve_account(project_id: str, account_id: str, directory: Admin) -> Body:
    """One service account."""
    return account_body(await directory.account(project_id, account_id))


@router.delete("/projects/{project_id}/service_accounts/{account_id}", dependencies=[LET_END])
async def delete_account(project_id: str, account_id: str, directory: Admin) -> Body:
    """Deletes a service account and revokes its keys."""
    await directory.delete_account(project_id, account_id)
    return {"id": account_id, "object": "organization.project.service_account.deleted", "deleted": True}


@router.post("/projects/{project_id}/service_accounts/{account_id}/api_keys", dependencies=[LET_END])
async def create_key(project_id: str, account_id: str, body: KeyCreate, directory: Admin) -> Body:
    """Issues one more key of a service account; its value is shown here and never again."""
    account = await directory.account(project_id, account_id)
    issued = await directory.create_key(
        account,
        body.name,
        scopes=body.scopes,
        expires_in_seconds=body.expires_in_seconds,
        user=body.user,
        groups=body.groups,
    )
    return issued_key_body(issued)


@router.get("/projects/{project_id}/api_keys")
async def list_keys(project_id: str, query: Annotated[KeyListQuery, Query()], directory: Admin) -> Body:
    """Lists the keys of a project, of all its service accounts."""
    records = [] if query.owner_project_access == "inactive" else await directory.keys(project_id)
    # After the keys, so that an account which was made with its key meanwhile is among them.
    accounts = {account.id: account for account in await directory.accounts(project_id)}
    bodies = [key_body(record, accounts.get(record.account)) for record in records]
    gone = older_left(bodies, await directory.gone_keys(project_id))
    return page(bodies, limit=query.limit, order="asc", after=query.after, gone=gone)


@router.get("/projects/{project_id}/api_keys/{key_id}")
async def retrieve_key(project_id: str, key_id: str, directory: Admin) -> Body:
    """One key of a project."""
    record = await directory.key(project_id, key_id)
    accounts = {account.id: account for account in await directory.accounts(project_id)}
    return key_body(record, accounts.get(record.account))


@router.delete("/projects/{project_id}/api_keys/{key_id}", dependencies=[LET_END])
async def delete_key(project_id: str, key_id: str, directory: Admin) -> Body:
    """Revokes a key of a project."""
    await directory.revoke_key(project_id, key_id)
    return {"id": key_id, "object": "organization.project.api_key.deleted", "deleted": True}
