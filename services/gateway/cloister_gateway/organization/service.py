"""The rules of administration: who may be made, listed and revoked, and what revoking means.

A project is a tenant. Keys of a project belong to its service accounts; keys of the organization administer and touch
no data. Whatever ends a key, a project or an account is written first and then told to every gateway.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cloister_common.errors import Conflict, InvalidRequest, NotFound
from cloister_common.ids import new_id
from cloister_common.logs import get_logger

from cloister_gateway.bus.announcements import Control
from cloister_gateway.identity import tokens
from cloister_gateway.identity.authenticator import CONTROL_KIND
from cloister_gateway.identity.principal import ADMIN_SCOPE, API_SCOPE, DATA_SCOPES, SERVER_STATE_ONLY
from cloister_gateway.identity.records import ORGANIZATION, AccountRecord, KeyRecord, ProjectRecord
from cloister_gateway.identity.store import IdentityStore

__all__ = ["Directory", "FirstKeys", "IssuedKey"]

log = get_logger(__name__)

_NAME_CHARACTERS = 256
_LONGEST_SECONDS = 10 * 366 * 24 * 3600
_KEY_SCOPES = DATA_SCOPES | {API_SCOPE, SERVER_STATE_ONLY}


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key at the only moment at which its token exists on the server."""

    record: KeyRecord
    token: str


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """What `Directory.bootstrap` made. None where there was one already."""

    project: IssuedKey | None
    admin: IssuedKey | None


class Directory:
    """Projects, service accounts and keys."""

    def __init__(self, store: IdentityStore, pepper: bytes, control: Control) -> None:
        self._store = store
        self._pepper = pepper
        self._control = control

    async def create_project(self, name: str) -> ProjectRecord:
        """Makes a project."""
        record = ProjectRecord(new_id("proj_"), _checked_name(name), int(time.time()))
        await self._store.add_project(record)
        log.info("project_created", project=record.id)
        return record

    async def project(self, project_id: str) -> ProjectRecord:
        """The project, archived or not. Raises `NotFound`."""
        record = await self._store.project(project_id)
        if record is None:
            raise NotFound(f"There is no project '{project_id}'.", param="project_id")
        return record

    async def active_project(self, project_id: str) -> ProjectRecord:
        """The project, which must not be archived."""
        record = await self.project(project_id)
        if record.archived_at is not None:
            raise Conflict("The project is archived; it cannot be changed any more.", param="project_id")
        return record

    async def projects(self, *, include_archived: bool) -> list[ProjectRecord]:
        """All projects, oldest first."""
        found = [await self._store.project(project_id) for project_id in await self._store.project_ids()]
        return [record for record in found if record and (include_archived or record.archived_at is None)]

    async def rename_project(self, project_id: str, name: str) -> ProjectRecord:
        """Gives the project another name."""
        record = replace(await self.active_project(project_id), name=_checked_name(name))
        await self._store.rename_project(record)
        return record

    async def archive_project(self, project_id: str) -> ProjectRecord:
        """Ends the project: from now on its keys open nothing, on any gateway."""
        await self.project(project_id)
        await self._store.archive_project(project_id)
        await self._control.publish(CONTROL_KIND, {"tenant": project_id})
        log.info("project_archived", project=project_id)
        return await self.project(project_id)

    async def create_account(self, project_id: str, name: str) -> AccountRecord:
        """Makes a service account."""
        await self.active_project(project_id)
        record = AccountRecord(new_id("svc_acct_"), project_id, _checked_name(name), int(time.time()))
        await self._store.add_account(record)
        log.info("service_account_created", project=project_id, account=record.id)
        return record

    async def account(self, project_id: str, account_id: str) -> AccountRecord:
        """A service account of the project. Raises `NotFound`, also if it is another project's."""
        await self.project(project_id)
        record = await self._store.account(account_id)
        if record is None or record.project != project_id:
            raise NotFound(f"The project has no service account '{account_id}'.", param="service_account_id")
        return record

    async def accounts(self, project_id: str) -> list[AccountRecord]:
        """The service accounts of the project, oldest first."""
        await self.project(project_id)
        found = [await self._store.account(account_id) for account_id in await self._store.account_ids(project_id)]
        return [record for record in found if record]

    async def delete_account(self, project_id: str, account_id: str) -> None:
        """Deletes a service account and revokes its keys."""
        record = await self.account(project_id, account_id)
        for key in await self.keys(project_id):
            if key.account == account_id:
                await self._revoke(key)
        await self._store.remove_account(record)
        log.info("service_account_deleted", project=project_id, account=account_id)

    async def create_key(
        self,
        account: AccountRecord,
        name: str,
        *,
        scopes: Iterable[str] = (),
        expires_in_seconds: int | None = None,
    ) -> IssuedKey:
        """Issues a key of a service account.

        Args:
            account: Whose it is.
            name: What people call it.
            scopes: What it may do; none, or only the fence ``server_state_only``, means all of the data API.
            expires_in_seconds: How long it lives; None is for ever.
        """
        await self.active_project(account.project)
        wanted = frozenset(scopes)
        unknown = wanted - _KEY_SCOPES
        if unknown:
            raise InvalidRequest(
                f"Unknown scope '{min(unknown)}'. The scopes are: {', '.join(sorted(_KEY_SCOPES))}.",
                param="scopes",
                code="invalid_value",
            )
        if not wanted - {SERVER_STATE_ONLY}:
            wanted |= {API_SCOPE}
        return await self._issue(account.project, account.id, name, wanted, expires_in_seconds)

    async def create_admin_key(self, name: str, *, expires_in_seconds: int | None = None) -> IssuedKey:
        """Issues a key that administers the organization."""
        return await self._issue("", "", name, frozenset({ADMIN_SCOPE}), expires_in_seconds)

    async def keys(self, project_id: str) -> list[KeyRecord]:
        """The keys of the project, oldest first."""
        await self.project(project_id)
        return await self._keys(project_id)

    async def admin_keys(self) -> list[KeyRecord]:
        """The keys of the organization, oldest first."""
        return await self._keys(ORGANIZATION)

    async def key(self, owner: str, key_id: str) -> KeyRecord:
        """A key of the project, or of the `ORGANIZATION`. Raises `NotFound`, also if it is another's."""
        rights = await self._store.rights.read(owner)
        record = await self._store.key(key_id) if rights is not None and key_id in rights.keys else None
        if record is None or record.owner != owner:
            raise NotFound(f"There is no API key '{key_id}' here.", param="api_key_id")
        return record

    async def revoke_key(self, owner: str, key_id: str) -> None:
        """Revokes a key: within two seconds it opens nothing on any gateway, and what it had open is closed."""
        await self._revoke(await self.key(owner, key_id))

    async def bootstrap(self) -> FirstKeys:
        """Makes the default project with a key, and an administration key, where none is in use.

        Archived projects and keys that expire do not count: `helm test` makes such, before the operator's first key.

        Raises:
            Conflict: Another bootstrap is running.
        """
        if not await self._store.hold_bootstrap():
            raise Conflict("Another bootstrap is running. Try again in half a minute.")
        try:
            project = admin = None
            if not await self.projects(include_archived=False):
                default = await self.create_project("default")
                project = await self.create_key(await self.create_account(default.id, "default"), "default")
            if all(key.expires_at is not None for key in await self.admin_keys()):
                admin = await self.create_admin_key("default")
            return FirstKeys(project, admin)
        finally:
            await self._store.release_bootstrap()

    async def _keys(self, owner: str) -> list[KeyRecord]:
        rights = await self._store.rights.read(owner)
        found = [await self._store.key(key_id) for key_id in (rights.keys if rights is not None else ())]
        return [record for record in found if record]

    async def _issue(
        self, tenant: str, account: str, name: str, scopes: frozenset[str], expires_in_seconds: int | None
    ) -> IssuedKey:
        if expires_in_seconds is not None and not 0 < expires_in_seconds <= _LONGEST_SECONDS:
            raise InvalidRequest(
                f"'expires_in_seconds' must be between 1 and {_LONGEST_SECONDS}.",
                param="expires_in_seconds",
                code="invalid_value",
            )
        now = int(time.time())
        key = tokens.mint()
        record = KeyRecord(
            id=key.id,
            mac=b"",
            kind="project" if tenant else "admin",
            tenant=tenant,
            scopes=scopes,
            expires_at=None if expires_in_seconds is None else now + expires_in_seconds,
            account=account,
            name=_checked_name(name),
            redacted=key.redacted,
            created_at=now,
        )
        record = replace(record, mac=tokens.digest(self._pepper, key, *record.grant))
        await self._store.add_key(record)
        log.info("api_key_created", key=record.id, kind=record.kind, project=tenant or None)
        return IssuedKey(record, key.token)

    async def _revoke(self, record: KeyRecord) -> None:
        await self._store.remove_key(record)
        await self._control.publish(CONTROL_KIND, {"key_id": record.id})
        log.info("api_key_revoked", key=record.id)


def _checked_name(name: str) -> str:
    stripped = name.strip()
    if not stripped or len(stripped) > _NAME_CHARACTERS:
        raise InvalidRequest(
            f"'name' must have between 1 and {_NAME_CHARACTERS} characters.", param="name", code="invalid_value"
        )
    return stripped
