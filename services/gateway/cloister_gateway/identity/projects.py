"""Projects, that is, tenants, and their service accounts: what keys belong to."""

import time

from cloister_common.ids import new_id
from cloister_common.logs import get_logger

from cloister_gateway.bus.announcements import Announcements
from cloister_gateway.identity.records import AccountRecord, ProjectRecord
from cloister_gateway.identity.revocation import tell_project_archived
from cloister_gateway.identity.store import IdentityStore

__all__ = ["Projects"]

log = get_logger(__name__)


class Projects:
    """All projects and accounts. What ends one is written first and then told to every gateway."""

    def __init__(self, store: IdentityStore, announcements: Announcements) -> None:
        self._store = store
        self._announcements = announcements

    async def create(self, name: str) -> ProjectRecord:
        """Makes a project."""
        record = ProjectRecord(new_id("proj_"), name, int(time.time()))
        await self._store.add_project(record)
        log.info("project_created", project=record.id)
        return record

    async def find(self, project_id: str) -> ProjectRecord | None:
        """The project, archived or not."""
        return await self._store.project(project_id)

    async def ids(self) -> list[str]:
        """The ids of all projects, archived or not, oldest first."""
        return await self._store.project_ids()

    async def all(self) -> list[ProjectRecord]:
        """All projects, archived or not, oldest first."""
        found = [await self._store.project(project_id) for project_id in await self._store.project_ids()]
        return [record for record in found if record]

    async def rename(self, record: ProjectRecord) -> None:
        """Stores the name of ``record``."""
        await self._store.rename_project(record)

    async def archive(self, project_id: str) -> None:
        """Ends the project: from now on its keys open nothing, on any gateway."""
        await self._store.archive_project(project_id)
        await tell_project_archived(self._announcements, project_id)
        log.info("project_archived", project=project_id)

    async def create_account(self, project_id: str, name: str) -> AccountRecord:
        """Makes a service account."""
        record = AccountRecord(new_id("svc_acct_"), project_id, name, int(time.time()))
        await self._store.add_account(record)
        log.info("service_account_created", project=project_id, account=record.id)
        return record

    async def find_account(self, project_id: str, account_id: str) -> AccountRecord | None:
        """The service account, if it is one of this project's."""
        return await self._store.account(project_id, account_id)

    async def accounts(self, project_id: str) -> list[AccountRecord]:
        """The service accounts of the project, oldest first."""
        ids = await self._store.account_ids(project_id)
        found = [await self._store.account(project_id, account_id) for account_id in ids]
        return [record for record in found if record]

    async def gone_accounts(self, project_id: str) -> dict[str, str]:
        """As `IdentityStore.gone`."""
        return await self._store.gone(project_id, "accounts")

    async def remove_account(self, record: AccountRecord) -> None:
        """Removes the service account, not its keys."""
        await self._store.remove_account(record)
        log.info("service_account_deleted", project=record.project, account=record.id)
