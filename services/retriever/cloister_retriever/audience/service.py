"""The rules of access lists: what a caller sees, what they may change, and how a search knows it without reading much.

A list belongs to a file, not to its place in a vector store: whoever may not see a file sees it nowhere, and it is to
them what a file is that does not exist. The list goes with the file into every store.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from cloister_common.caller import NOBODY, Caller
from cloister_common.errors import Forbidden
from cloister_common.logs import get_logger

from cloister_retriever.audience.records import FileAccess
from cloister_retriever.audience.schemas import AccessList
from cloister_retriever.audience.store import AccessStore
from cloister_retriever.identifiers import FILE_PREFIX, check_id, missing
from cloister_retriever.storage.objects import each

__all__ = ["Audiences", "Sight"]

log = get_logger(__name__)

_WRITING_SECONDS = 60.0
"""Who began to change lists longer ago has ended, or died: one call to the object store takes 30 s at most."""

_TENANTS_KNOWN = 200
_CALLERS_KNOWN = 1000
"""Of whom it is remembered what they see: a set of ids each, which for most is small."""


@dataclass
class _Known:
    """All lists of a tenant as they were at a change.

    Attributes:
        change: The id of that change.
        final: Whether they are good until the next change.
        lists: By file.
        hidden: What callers do not see.
    """

    change: str
    final: bool
    lists: Mapping[str, FileAccess]
    hidden: dict[Caller, frozenset[str]] = field(default_factory=dict)

    def hidden_from(self, caller: Caller) -> frozenset[str]:
        found = self.hidden.get(caller)
        if found is None:
            found = frozenset(file_id for file_id, access in self.lists.items() if not access.shows(caller))
            if len(self.hidden) >= _CALLERS_KNOWN:
                self.hidden.clear()
            self.hidden[caller] = found
        return found


class Audiences:
    """The access lists of all tenants."""

    def __init__(self, store: AccessStore) -> None:
        self._store = store
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._reading: dict[str, asyncio.Lock] = {}

    async def write(self, tenant: str, lists: Mapping[str, FileAccess | None]) -> None:
        """Puts lists on files, or takes them away. In force for everything that begins when this has returned."""
        await self._store.write(tenant, lists)
        log.info("access_changed", files=len(lists))

    async def get_all(self, tenant: str, file_ids: Sequence[str]) -> list[FileAccess | None]:
        """The lists of files, as they are now: nothing is read for each where the tenant has no lists."""
        if await self._store.key(tenant) is None:
            return [None] * len(file_ids)
        return await each(partial(self._store.get, tenant), file_ids)

    async def forget(self, tenant: str, file_id: str) -> None:
        """The file is gone."""
        await self._store.forget(tenant, file_id)

    async def hidden(self, tenant: str, caller: Caller) -> frozenset[str]:
        """The files that ``caller`` does not see, of all that the tenant has.

        It costs one small object to read, and nothing at all where the tenant has no lists.
        """
        key = None if caller.all_files else await self._store.key(tenant)
        if key is None:
            return frozenset()
        change = await self._store.last_change(tenant, key)
        known = self._remembered(tenant, None if change is None else change.id)
        if known is None:
            # Of several who find that there was a change, one reads.
            async with self._reading.setdefault(tenant, asyncio.Lock()):
                change = await self._store.last_change(tenant, key)
                known = self._remembered(tenant, None if change is None else change.id)
                if known is None:
                    final = change is not None and (change.settled or time.time() - change.at > _WRITING_SECONDS)
                    lists = await self._store.all(tenant, key)
                    known = _Known("" if change is None else change.id, final, lists)
                    self._remember(tenant, known)
        return known.hidden_from(caller)

    def _remembered(self, tenant: str, change: str | None) -> _Known | None:
        known = self._known.get(tenant)
        return known if known is not None and known.final and known.change == change else None

    def _remember(self, tenant: str, known: _Known) -> None:
        self._known[tenant] = known
        self._known.move_to_end(tenant)
        while len(self._known) > _TENANTS_KNOWN:
            forgotten, _ = self._known.popitem(last=False)
            self._reading.pop(forgotten, None)


class Sight:
    """What one caller sees, and may change.

    Args:
        audiences: The lists.
        tenant: The caller's project.
        caller: Who it is.
    """

    def __init__(self, audiences: Audiences, tenant: str, caller: Caller) -> None:
        self._audiences = audiences
        self._tenant = tenant
        self._caller = caller

    async def hidden(self) -> frozenset[str]:
        """The files of the project that the caller does not see."""
        return await self._audiences.hidden(self._tenant, self._caller)

    async def see(self, file_id: str, *, param: str | None = None) -> FileAccess | None:
        """Lets pass who sees the file, if it exists; gives its list.

        Raises:
            NotFound: As for a file that does not exist.
        """
        [access] = await self.see_all([file_id], param=param)
        return access

    async def see_all(self, file_ids: Sequence[str], *, param: str | None = None) -> list[FileAccess | None]:
        """`see` of many at once: their lists, in the same order.

        Raises:
            NotFound: As for a file that does not exist.
        """
        asked = [check_id(FILE_PREFIX, file_id, param=param) for file_id in file_ids]
        found = await self._audiences.get_all(self._tenant, asked)
        for file_id, access in zip(asked, found, strict=True):
            if access is not None and not access.shows(self._caller):
                raise missing(FILE_PREFIX, file_id, param=param)
        return found

    async def change(self, file_id: str) -> None:
        """Lets pass who may change the file, or take it away.

        Raises:
            NotFound: The caller does not even see it.
            Forbidden: The caller sees it, and it is another's.
        """
        self.check_change(file_id, await self.see(file_id))

    async def change_all(self, file_ids: Sequence[str]) -> None:
        """`change` of many at once."""
        for file_id, access in zip(file_ids, await self.see_all(file_ids), strict=True):
            self.check_change(file_id, access)

    def check_change(self, file_id: str, access: FileAccess | None) -> None:
        """`change` of a file whose list, ``access``, was read."""
        if not self.may_change(access):
            raise Forbidden(
                f"The file '{file_id}' has an access list of somebody else's: you may read it. Its owner may change it "
                "or take it away, and so may a key with the scope 'all_files'.",
                code="not_the_owner",
            )

    def may_change(self, access: FileAccess | None) -> bool:
        """Whether the caller may change what has the list ``access``."""
        return access is None or access.yields(self._caller)

    def listed(self, file_id: str, access: FileAccess | None, wanted: AccessList | None) -> FileAccess | None:
        """The list that the file gets where the caller wants ``wanted``, and it has ``access``. None is none.

        Whoever puts a list on a file that has none owns it from then on.

        Raises:
            Forbidden: The list is another's, or the caller is nobody who could own one.
        """
        self.check_change(file_id, access)
        if wanted is None:
            return None
        if self._caller.user is None and not self._caller.all_files:
            raise Forbidden(
                "This API key names no user, who would own the access list. Use a key that names one, or one with the "
                "scope 'all_files'.",
                param="access",
                code="access_without_user",
            )
        owner = self._caller.user if access is None else access.owner
        return FileAccess(file_id=file_id, owner=owner, users=frozenset(wanted.users), groups=frozenset(wanted.groups))

    async def inherit(self, file_id: str, like: str, *, is_there: bool) -> None:
        """Puts the list of the file ``like``, whoever's it is, on one that is being made from it for the caller. Where
        ``like`` is gone, and its list with it, one that only the caller sees."""
        [access] = await self._audiences.get_all(self._tenant, [like])
        if access is None and not is_there and self._caller != NOBODY:
            access = FileAccess(file_id=like, owner=self._caller.user, users=frozenset(), groups=self._caller_groups)
        if access is not None:
            await self.put({file_id: access.model_copy(update={"file_id": file_id})})

    @property
    def _caller_groups(self) -> frozenset[str]:
        """Whom a list names that a caller without a name of their own shall see."""
        return frozenset() if self._caller.user is not None else frozenset(self._caller.groups)

    async def put(self, lists: Mapping[str, FileAccess | None]) -> None:
        """Puts lists that `listed` gave."""
        if lists:
            await self._audiences.write(self._tenant, lists)

    def shown(self, access: FileAccess | None) -> dict[str, object]:
        """What an object of OpenAI's shape says besides: the list, to those who may change it."""
        return {} if access is None or not access.yields(self._caller) else {"access": access.wire()}
