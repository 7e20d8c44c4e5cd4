"""A register: what there is of many objects of one place, in one object, so that nobody lists thousands of them.

A register is a copy of a listing, and the listing stays the truth. Whoever writes or removes objects of an attachment
notes after that, in an empty object, that the attachment has changed. So what there is stands in the last register, and
of what has changed since in listings of these attachments alone.

Registers are numbered, and the highest counts. Who writes one looks for the highest and the notes, then lists, then
creates the next number, which one of several writers does; and only if it is the highest still, removes first the older
registers and then the notes that it had seen. So a note that is gone is in a register that is there, whoever died in
between, and a reader whose register is gone looks again. A change without a note belongs to a job that died, and that
is done again. Once an hour a register is made of a listing of everything; more often at first, since retrievers of an
earlier version, which note nothing, may still run beside a process that has just begun.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
from cloister_common.errors import Unavailable
from cloister_common.ids import new_id
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError, encode_context, open_record, seal

from cloister_retriever.storage.bundles import Kind
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import ListedObject, Objects, each

__all__ = ["Holdings", "Register"]

log = get_logger(__name__)
_NOTE, _REGISTER = "changed", "register"
_KEPT_SECONDS = 3600.0
_LEAST_KEPT_SECONDS = 60.0
_BEGAN = time.monotonic()
_MOST_LOOKS = 20
"""Where registers come and go faster, or one is listed that cannot be read, everything is listed."""

_FEW_CHANGES = 64
"""So many attachments are listed one by one."""

_FEW_OBJECTS = 64
"""So many are listed as quickly as a register is read."""


class _Look(NamedTuple):
    """What stands in the folder of a place's registers.

    Attributes:
        number: The highest, or 0.
        older: All others.
        notes: Each with the attachment that it is about.
    """

    number: int
    older: Sequence[int]
    notes: Mapping[str, str]


class Holdings:
    """The objects of a place, as they were looked at last.

    Attributes:
        objects: By attachment.
    """

    def __init__(self) -> None:
        self.objects: dict[str, list[ListedObject]] = {}
        self._number = 0
        self._made_at = 0.0
        """When everything was listed, in seconds since the epoch."""
        self._noted: frozenset[str] = frozenset()

    @property
    def all(self) -> list[ListedObject]:
        """The objects of all attachments."""
        return [one for objects in self.objects.values() for one in objects]


class Register:
    """The registers of one kind of objects of all tenants.

    Args:
        objects: The object store.
        keyring: Of the retriever.
        kind: What is registered: objects that lie in a folder for each place, and in it under the attachment's name, or
            in a folder of that name.
    """

    def __init__(self, objects: Objects, keyring: Keyring, kind: Kind) -> None:
        self._objects = objects
        self._keyring = keyring
        self._kind = kind

    async def note(self, tenant: str, place: str, attachment_id: str) -> None:
        """Says that objects of an attachment were written."""
        await self._objects.put(f"{await self._folder(tenant, place)}/{_NOTE}-{attachment_id}-{new_id('')}", b"")

    async def removed(self, tenant: str, place: str, attachment_id: str | None = None) -> None:
        """Says that the objects of an attachment, or all of a place, were removed. Where there is no register, nothing
        stays that tells of them."""
        folder = await self._folder(tenant, place)
        if attachment_id is None:
            await self._objects.delete_all(folder)
            return
        async for _ in self._objects.between(folder, after=_REGISTER):  # and no more of the notes
            await self.note(tenant, place, attachment_id)
            return
        look = await self._look(tenant, place)
        own = [name for name, one in look.notes.items() if one == attachment_id]
        await each(self._objects.delete, [f"{folder}/{name}" for name in own])

    async def refresh(self, tenant: str, place: str, key: DataKey, holdings: Holdings) -> bool:
        """Brings up to date what is known of a place; whether anything of it was looked at anew.

        Args:
            tenant: Whose it is.
            place: The name of a store's edition.
            key: The store's.
            holdings: What is known.
        """
        for _ in range(_MOST_LOOKS):
            look = await self._look(tenant, place)
            if not look.number or len(set(look.notes.values())) > _FEW_CHANGES:
                break
            if is_other := look.number != holdings._number:
                data = await self._objects.get(await self._path(tenant, place, look.number))
            if data is None if is_other else not await self._is_there(tenant, place, look.number):
                continue  # there is a later one, and the notes that it was made of are gone
            if is_other and not await self._take(tenant, place, key, look.number, data, holdings):
                break
            changed = {look.notes[name] for name in look.notes.keys() - holdings._noted}
            now = await each(lambda one: self._of(tenant, place, one), sorted(changed))
            holdings.objects.update(zip(sorted(changed), now, strict=True))
            holdings._number, holdings._noted = look.number, frozenset(look.notes)
            return is_other or bool(changed)
        await self._list(tenant, place, holdings)
        return True

    async def write(self, tenant: str, place: str, key: DataKey, holdings: Holdings) -> bool:
        """Brings ``holdings`` up to date, and writes a register of them where there are many objects or notes and
        something has changed since the last; whether anything was looked at anew.

        Raises:
            Unavailable: The object store does not answer. Where it has no room for a register there is none.
        """
        look = await self._look(tenant, place)
        is_changed = await self.refresh(tenant, place, key, holdings)
        is_old = _is_old(holdings._made_at)
        is_few = max(len(holdings.all), len(look.notes)) <= _FEW_OBJECTS and not (look.number and is_old)
        if is_few or (look.number == holdings._number and look.number and not look.notes and not is_old):
            return is_changed
        try:
            if is_old:
                await self._list(tenant, place, holdings)
                is_changed = True
            await self._write(tenant, place, key, look, holdings)
        except Unavailable:
            # What there is was looked at all the same, and whoever asked has to hear of it.
            log.warning("register_not_written", place=place)
        return is_changed

    async def _write(self, tenant: str, place: str, key: DataKey, look: _Look, holdings: Holdings) -> None:
        self._objects.check_room()
        number = look.number + 1
        content = await asyncio.to_thread(
            self._sealed, await self._objects_folder(tenant, place), tenant, place, key, number, holdings
        )
        if not await self._objects.create(await self._path(tenant, place, number), content):
            return  # another has written one, of what it saw
        if number == 1:
            # Before there was a register, nothing was noted of what was removed, and notes went with it.
            before = holdings.objects
            await self._list(tenant, place, holdings)
            names = before.keys() | holdings.objects.keys()
            changed = [name for name in names if before.get(name) != holdings.objects.get(name)]
            await each(lambda one: self.note(tenant, place, one), changed)
        after = await self._look(tenant, place)
        if after.number != number:
            return
        if number > 1:
            holdings._number = number
        paths = [await self._path(tenant, place, old) for old in after.older]
        await each(self._objects.delete, paths)
        folder = await self._folder(tenant, place)
        await each(self._objects.delete, [f"{folder}/{name}" for name in look.notes])

    async def _look(self, tenant: str, place: str) -> _Look:
        numbers, notes = [], {}
        for listed in await self._objects.list(await self._folder(tenant, place)):
            what, _, rest = listed.leaf.partition("-")
            if what == _NOTE:
                notes[listed.leaf] = rest.rpartition("-")[0]
            elif what == _REGISTER and rest.isdecimal():
                numbers.append(int(rest))
        return _Look(max(numbers, default=0), sorted(numbers)[:-1], notes)

    async def _is_there(self, tenant: str, place: str, number: int) -> bool:
        return await self._objects.size(await self._path(tenant, place, number)) is not None

    async def _list(self, tenant: str, place: str, holdings: Holdings) -> None:
        folder, made_at = await self._objects_folder(tenant, place), time.time()
        objects: dict[str, list[ListedObject]] = {}
        for listed in await self._objects.list(folder):
            objects.setdefault(listed.path[len(folder) + 1 :].partition("/")[0], []).append(listed)
        holdings.objects, holdings._made_at = objects, made_at
        holdings._number, holdings._noted = 0, frozenset()

    async def _of(self, tenant: str, place: str, attachment_id: str) -> list[ListedObject]:
        """What there is of one attachment."""
        path = f"{await self._objects_folder(tenant, place)}/{attachment_id}"
        if self._kind == "packs":
            return await self._objects.list(path)
        found = await self._objects.look(path)
        return [] if found is None else [found]

    def _sealed(self, folder: str, tenant: str, place: str, key: DataKey, number: int, holdings: Holdings) -> bytes:
        objects = [
            [name, [[one.path[len(folder) + 1 :], one.e_tag, one.size] for one in listed]]
            for name, listed in holdings.objects.items()
            if listed
        ]
        # The first is made anew with the next sweep: whoever wrote it may have died before it noted what was removed.
        content = [holdings._made_at if number > 1 else 0.0, objects]
        return seal(key.subkey("register"), orjson.dumps(content), self._context(tenant, place, number))

    async def _take(
        self, tenant: str, place: str, key: DataKey, number: int, data: bytes | None, holdings: Holdings
    ) -> bool:
        """Takes over what a register says; whether it opens."""
        folder = await self._objects_folder(tenant, place)

        def opened() -> tuple[float, dict[str, list[ListedObject]]]:
            assert data is not None
            plain = open_record(key.subkey("register"), data, self._context(tenant, place, number))
            made_at, objects = orjson.loads(plain)
            return made_at, {
                name: [ListedObject(f"{folder}/{path}", tag, size) for path, tag, size in listed]
                for name, listed in objects
            }

        try:
            holdings._made_at, holdings.objects = await asyncio.to_thread(opened)
        except VaultError:
            log.error("register_did_not_open", place=place, number=number)
            return False
        # Until what has changed since was looked at too, it is no register that is known.
        holdings._number, holdings._noted = 0, frozenset()
        return True

    def _context(self, tenant: str, place: str, number: int) -> bytes:
        return encode_context("register", tenant, place, self._kind, number)

    async def _folder(self, tenant: str, place: str) -> str:
        return (await tenant_paths(self._keyring, tenant)).register(place, self._kind)

    async def _path(self, tenant: str, place: str, number: int) -> str:
        return f"{await self._folder(tenant, place)}/{_REGISTER}-{number:012d}"

    async def _objects_folder(self, tenant: str, place: str) -> str:
        paths = await tenant_paths(self._keyring, tenant)
        return paths.packs(place) if self._kind == "packs" else paths.words(place)


def _is_old(made_at: float) -> bool:
    """Whether everything is to be listed again. Clocks may differ, and one may have been ahead."""
    kept = min(max((time.monotonic() - _BEGAN) / 2, _LEAST_KEPT_SECONDS), _KEPT_SECONDS)
    return abs(time.time() - made_at) > kept
