"""The rules of administration: who may be made, listed and revoked, and what revoking means.

A project is a tenant. Keys of a project belong to its service accounts; keys of the organization administer and touch
no data. Identity keeps all of them; here is what may be asked of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cloister_common.errors import Conflict, InvalidRequest, NotFound

from cloister_gateway.identity.keys import ApiKeys, IssuedKey
from cloister_gateway.identity.principal import ADMIN_SCOPE, ALL_FILES, API_SCOPE, DATA_SCOPES, SERVER_STATE_ONLY
from cloister_gateway.identity.projects import Projects
from cloister_gateway.identity.records import ORGANIZATION, AccountRecord, KeyRecord, ProjectRecord

__all__ = ["Directory", "FirstKeys"]

_NAME_CHARACTERS = 256
_GROUPS_BYTES = 4096
"""The groups of a caller travel in a header of each call to the retriever."""
_LONGEST_SECONDS = 10 * 366 * 24 * 3600
_KEY_SCOPES = DATA_SCOPES | {ALL_FILES, API_SCOPE, SERVER_STATE_ONLY}


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """What `Directory.bootstrap` made. None where there was one already."""

    project: IssuedKey | None
    admin: IssuedKey | None


class Directory:
    """Projects, service accounts and keys."""

    def __init__(self, projects: Projects, keys: ApiKeys) -> None:
        self._projects = projects
        self._keys = keys

    async def create_project(self, name: str) -> ProjectRecord:
        """Makes a project."""
        return await self._projects.create(_checked_name(name))

    async def project(self, project_id: str) -> ProjectRecord:
        """The project, archived or not. Raises `NotFound`."""
        record = await self._projects.find(project_id)
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
        found = await self._projects.all()
        return [record for record in found if include_archived or record.archived_at is None]

    async def project_ids(self) -> list[str]:
        """The ids of all projects, archived ones too, oldest first: one question for any number of them."""
        return await self._projects.ids()

    async def gone_accounts(self, project_id: str) -> dict[str, str]:
        """The service accounts deleted lately, by id, with the one that stood before each."""
        return await self._projects.gone_accounts(project_id)

    async def gone_keys(self, owner: str) -> dict[str, str]:
        """The keys of a project, or of the `ORGANIZATION`, revoked lately, by id, with the one that stood before."""
        return await self._keys.gone(owner)

    async def rename_project(self, project_id: str, name: str) -> ProjectRecord:
        """Gives the project another name."""
        await self._projects.rename(replace(await self.active_project(project_id), name=_checked_name(name)))
        return await self.project(project_id)

    async def archive_project(self, project_id: str) -> ProjectRecord:
        """Ends the project: from now on its keys open nothing, on any gateway."""
        await self.project(project_id)
        await self._projects.archive(project_id)
        return await self.project(project_id)

    async def create_account(self, project_id: str, name: str) -> AccountRecord:
        """Makes a service account."""
        await self.active_project(project_id)
        return await self._projects.create_account(project_id, _checked_name(name))

    async def account(self, project_id: str, account_id: str) -> AccountRecord:
        """A service account of the project. Raises `NotFound`, also if it is another project's."""
        await self.project(project_id)
        record = await self._projects.find_account(project_id, account_id)
        if record is None:
            raise NotFound(f"The project has no service account '{account_id}'.", param="service_account_id")
        return record

    async def accounts(self, project_id: str) -> list[AccountRecord]:
        """The service accounts of the project, oldest first."""
        await self.project(project_id)
        return await self._projects.accounts(project_id)

    async def delete_account(self, project_id: str, account_id: str) -> None:
        """Deletes a service account and revokes its keys."""
        record = await self.account(project_id, account_id)
        for key in await self.keys(project_id):
            if key.account == account_id:
                await self._keys.revoke(key)
        await self._projects.remove_account(record)

    async def create_key(
        self,
        account: AccountRecord,
        name: str,
        *,
        scopes: Iterable[str] = (),
        expires_in_seconds: int | None = None,
        user: str | None = None,
        groups: Iterable[str] = (),
    ) -> IssuedKey:
        """Issues a key of a service account.

        Args:
            account: Whose it is.
            name: What people call it.
            scopes: What it may do; none, or only the fence ``server_state_only`` or the right ``all_files``, means all
                of the data API.
            expires_in_seconds: How long it lives; None is for ever.
            user, groups: Who holds it, and what they belong to, to access lists of files.
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
        if not wanted - {ALL_FILES, SERVER_STATE_ONLY}:
            wanted |= {API_SCOPE}
        belongs = frozenset(groups)
        if sum(len(name.encode()) for name in belongs) > _GROUPS_BYTES:
            raise InvalidRequest(
                f"The names in 'groups' have more than {_GROUPS_BYTES} bytes together.",
                param="groups",
                code="invalid_value",
            )
        return await self._issue(account.project, account.id, name, wanted, expires_in_seconds, user or "", belongs)

    async def create_admin_key(self, name: str, *, expires_in_seconds: int | None = None) -> IssuedKey:
        """Issues a key that administers the organization."""
        return await self._issue("", "", name, frozenset({ADMIN_SCOPE}), expires_in_seconds)

    async def keys(self, project_id: str) -> list[KeyRecord]:
        """The keys of the project, oldest first."""
        await self.project(project_id)
        return await self._keys.of(project_id)

    async def admin_keys(self) -> list[KeyRecord]:
        """The keys of the organization, oldest first."""
        return await self._keys.of(ORGANIZATION)

    async def key(self, owner: str, key_id: str) -> KeyRecord:
        """A key of the project, or of the `ORGANIZATION`. Raises `NotFound`, also if it is another's."""
        record = await self._keys.find(owner, key_id)
        if record is None:
            raise NotFound(f"There is no API key '{key_id}' here.", param="api_key_id")
        return record

    async def revoke_key(self, owner: str, key_id: str) -> None:
        """Revokes a key: within two seconds it opens nothing on any gateway, and what it had open is closed."""
        await self._keys.revoke(await self.key(owner, key_id))

    async def bootstrap(self) -> FirstKeys:
        """Makes the default project with a key, and an administration key, where none is in use.

        Archived projects and keys that expire do not count: `helm test` makes such, before the operator's first key.

        Raises:
            Conflict: Another bootstrap is running.
        """
        async with self._keys.making_the_first():
            project = admin = None
            if not await self.projects(include_archived=False):
                default = await self.create_project("default")
                project = await self.create_key(await self.create_account(default.id, "default"), "default")
            if all(key.expires_at is not None for key in await self.admin_keys()):
                admin = await self.create_admin_key("default")
            return FirstKeys(project, admin)

    async def _issue(
        self,
        tenant: str,
        account: str,
        name: str,
        scopes: frozenset[str],
        expires_in_seconds: int | None,
        user: str = "",
        groups: frozenset[str] = frozenset(),
    ) -> IssuedKey:
        if expires_in_seconds is not None and not 0 < expires_in_seconds <= _LONGEST_SECONDS:
            raise InvalidRequest(
                f"'expires_in_seconds' must be between 1 and {_LONGEST_SECONDS}.",
                param="expires_in_seconds",
                code="invalid_value",
            )
        return await self._keys.issue(
            tenant=tenant,
            account=account,
            name=_checked_name(name),
            scopes=scopes,
            lifetime_seconds=expires_in_seconds,
            user=user,
            groups=groups,
        )


def _checked_name(name: str) -> str:
    stripped = name.strip()
    if not stripped or len(stripped) > _NAME_CHARACTERS:
        raise InvalidRequest(
            f"'name' must have between 1 and {_NAME_CHARACTERS} characters.", param="name", code="invalid_value"
        )
    return stripped
