"""Access lists in the object store: one record for each file that has a list, sealed with a key of the project's lists.

One key for all of them, since a search must know all of them: ten thousand lists would be ten thousand keys to read
after a start.
"""

import secrets
import time
from collections.abc import Mapping

from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError

from cloister_retriever.audience.records import AccessChange, FileAccess
from cloister_retriever.keys import ACCESS
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import each
from cloister_retriever.storage.records import RecordKind, SealedRecords

__all__ = ["AccessStore"]

log = get_logger(__name__)


class AccessStore:
    """Reads and writes one tenant's access lists."""

    def __init__(self, keyring: Keyring, records: SealedRecords) -> None:
        self._keyring = keyring
        self._records = records

    async def key(self, tenant: str) -> DataKey | None:
        """The key of the tenant's lists; None if it never had one."""
        return await self._keyring.get(tenant, ACCESS, await self._name(tenant))

    async def get(self, tenant: str, file_id: str) -> FileAccess | None:
        """The file's list, or what stands for one that does not open."""
        key = await self.key(tenant)
        if key is None:
            return None
        paths = await tenant_paths(self._keyring, tenant)
        try:
            return await self._records.get(paths.file_access(file_id), FileAccess, key)
        except VaultError:
            log.error("record_did_not_open", kind=FileAccess.__name__, id=file_id)
            return FileAccess.lost(file_id)

    async def all(self, tenant: str, key: DataKey) -> dict[str, FileAccess]:
        """Every list, by file. Of those that this process has read only what was written since is read again."""

        async def key_of(_: str) -> DataKey | None:
            return key

        paths = await tenant_paths(self._keyring, tenant)
        kind = RecordKind(FileAccess, key_of, FileAccess.lost)
        return {found.file_id: found for found in await self._records.list(paths.file_accesses, kind)}

    async def last_change(self, tenant: str, key: DataKey) -> AccessChange | None:
        """The last change; None if it is not known, which is no sign that there was none."""
        paths = await tenant_paths(self._keyring, tenant)
        try:
            return await self._records.get(paths.access_change, AccessChange, key)
        except VaultError:
            log.error("record_did_not_open", kind=AccessChange.__name__)
            return None

    async def write(self, tenant: str, lists: Mapping[str, FileAccess | None]) -> None:
        """Puts lists on files, by file; None takes a file's away. Every search that begins after this knows.

        It is told before anything is written, and again when all is: whoever looks in between, or after this process
        has died in between, trusts nothing that is remembered.
        """
        key = await self._keyring.obtain(tenant, ACCESS, await self._name(tenant))
        paths = await tenant_paths(self._keyring, tenant)
        began = time.time()

        async def note(*, settled: bool) -> None:
            change = AccessChange(id=secrets.token_hex(16), at=began, settled=settled)
            await self._records.put(paths.access_change, change, key)

        async def one(entry: tuple[str, FileAccess | None]) -> None:
            file_id, wanted = entry
            path = paths.file_access(file_id)
            await (self._records.delete(path) if wanted is None else self._records.put(path, wanted, key))

        await note(settled=False)
        await each(one, lists.items())
        await note(settled=True)

    async def forget(self, tenant: str, file_id: str) -> None:
        """Removes the list of a file that nobody can read any more. What others remember of it does no harm."""
        if await self.key(tenant) is not None:
            paths = await tenant_paths(self._keyring, tenant)
            await self._records.delete(paths.file_access(file_id))

    async def _name(self, tenant: str) -> str:
        """What the store calls the key: nothing that tells whose it is."""
        return await self._keyring.name(tenant, ACCESS)
