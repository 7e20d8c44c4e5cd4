"""Wire models of administration: OpenAI's admin schema, so that ``client.admin.organization`` of its SDK works.

Source: OpenAI API reference, "Administration", and the types of the ``openai`` package (3.54).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from cloister_common.wire.requests import Extension, RequestModel
from pydantic import BaseModel, Field, StringConstraints

from cloister_gateway.identity.keys import IssuedKey
from cloister_gateway.identity.records import AccountRecord, KeyRecord, ProjectRecord

__all__ = [
    "AccountCreate",
    "AdminKeyCreate",
    "AdminKeyListQuery",
    "KeyCreate",
    "KeyListQuery",
    "ListQuery",
    "ProjectCreate",
    "ProjectListQuery",
    "ProjectUpdate",
    "account_body",
    "admin_key_body",
    "issued_key_body",
    "key_body",
    "project_body",
]

_Body = dict[str, Any]


_ELSEWHERE = "A project is where the installation is, under the installation's keys. Leave it out."


class ProjectCreate(RequestModel):
    """``POST /v1/organization/projects``. Residency has no meaning on one's own cluster."""

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(("external_key_id", "geography", "residency"), _ELSEWHERE)

    name: str


class ProjectUpdate(RequestModel):
    """``POST /v1/organization/projects/{id}``"""

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(("external_key_id", "geography"), _ELSEWHERE)

    name: str


class AdminKeyCreate(RequestModel):
    """``POST /v1/organization/admin_api_keys``"""

    name: str
    expires_in_seconds: int | None = None


_Group = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _KeyRights(RequestModel):
    """What a key may do, and for whom. All of it is ours."""

    scopes: Annotated[list[str], Extension()] = Field(
        [], fail_fast=True, description="[What the key may do](api.md#what-a-key-may-do)."
    )
    user: Annotated[str | None, Extension()] = Field(
        None,
        min_length=1,
        max_length=128,
        description="Who holds the key, as access lists call them: [who may see a file](api.md#who-may-see-a-file).",
    )
    groups: Annotated[list[_Group], Extension()] = Field(
        [], max_length=64, fail_fast=True, description="What the holder belongs to, as access lists call it."
    )


class AccountCreate(_KeyRights):
    """``POST …/service_accounts``. The rights are those of the account's first key."""

    name: str
    create_service_account_only: bool | None = None
    expires_in_seconds: int | None = None


class KeyCreate(_KeyRights):
    """``POST …/service_accounts/{id}/api_keys``"""

    name: str = "key"
    expires_in_seconds: int | None = None


class ListQuery(BaseModel):
    """The query of the simplest lists. What a list does not know, the router looks at."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class ProjectListQuery(ListQuery):
    """``GET /v1/organization/projects``"""

    include_archived: bool = False


class AdminKeyListQuery(ListQuery):
    """``GET /v1/organization/admin_api_keys``"""

    order: Literal["asc", "desc"] = "asc"


class KeyListQuery(ListQuery):
    """``GET …/api_keys``. All keys belong to service accounts, which always have access to their project."""

    owner_project_access: Literal["active", "inactive", "any"] = "any"


def project_body(record: ProjectRecord) -> _Body:
    """``organization.project``"""
    return {
        "object": "organization.project",
        "id": record.id,
        "name": record.name,
        "created_at": record.created_at,
        "archived_at": record.archived_at,
        "status": "active" if record.archived_at is None else "archived",
        **_damage(record),
    }


def account_body(record: AccountRecord) -> _Body:
    """``organization.project.service_account``"""
    return {
        "object": "organization.project.service_account",
        "id": record.id,
        "name": record.name,
        "role": "member",
        "created_at": record.created_at,
        **_damage(record),
    }


def issued_key_body(issued: IssuedKey) -> _Body:
    """``organization.project.service_account.api_key``: the only answer that carries a key."""
    return {
        "object": "organization.project.service_account.api_key",
        "id": issued.record.id,
        "name": issued.record.name,
        "created_at": issued.record.created_at,
        "expires_at": issued.record.expires_at,
        "value": issued.token,
    }


def key_body(record: KeyRecord, account: AccountRecord | None) -> _Body:
    """``organization.project.api_key``; ``scopes``, ``user`` and ``groups`` are ours.

    Without its account the record is a damaged one.
    """
    if account is None:
        account, record = AccountRecord(record.account, record.tenant, "", 0), replace(record, damaged=True)
    owner = {"id": account.id, "name": account.name, "role": "member", "created_at": account.created_at}
    return {
        "object": "organization.project.api_key",
        **_common(record),
        "owner": {"type": "service_account", "service_account": owner},
        "owner_project_access": "active",
        "scopes": sorted(record.scopes),
        "user": record.user or None,
        "groups": sorted(record.groups),
    }


def admin_key_body(record: KeyRecord) -> _Body:
    """``organization.admin_api_key``"""
    return {
        "object": "organization.admin_api_key",
        **_common(record),
        "owner": {"type": "user", "object": "organization.user", "id": "operator", "role": "owner"},
    }


def _common(record: KeyRecord) -> _Body:
    return {
        "id": record.id,
        "name": record.name,
        "redacted_value": record.redacted,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "last_used_at": record.last_used_at,
        **_damage(record),
    }


def _damage(record: ProjectRecord | AccountRecord | KeyRecord) -> _Body:
    """What says of a record, in a field of ours, that part of it is not what was written."""
    if not record.damaged:
        return {}
    return {"status_details": "Part of this record is not what was written, and left empty. The log has the place."}
