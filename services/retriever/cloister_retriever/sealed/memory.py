"""What is open of sealed vector stores: blocks in memory, read when a store is searched, bounded in bytes.

A store is looked up in the object store when it may have changed: within seconds of having grown, and every ten
seconds while it is searched. What was removed there, by whatever process, leaves the memory with that look, and once a
minute also where nobody searches. Where the bound is reached the stores that were searched longest ago go first.

Small packs are read out of bundles, as far as there are any (`cloister_retriever.sealed.copies`). Those are written
once a minute, by whoever has a store open or has just written into it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError
from prometheus_client import Counter, Gauge

from cloister_retriever.editions import Place
from cloister_retriever.index.passages import PassageOwner
from cloister_retriever.index.protocol import DROPPED
from cloister_retriever.keys import PassageKeyring, PassageKeys, edition_keys, place_key
from cloister_retriever.sealed.block import Block, Part
from cloister_retriever.sealed.copies import Copies, encoded, is_small
from cloister_retriever.sealed.copies import opened as opened_copies
from cloister_retriever.sealed.pack import MOST_PASSAGES, opened
from cloister_retriever.sealed.packs import PackName, Packs, names_of
from cloister_retriever.storage.bundling import FEW_LOOSE, planned
from cloister_retriever.storage.objects import each
from cloister_retriever.storage.register import Holdings

__all__ = ["OpenStores"]

log = get_logger(__name__)
_HELD = Gauge("cloister_sealed_bytes", "Bytes that are open of sealed vector stores.")
_READ = Counter("cloister_sealed_packs_read_total", "Packs of sealed vector stores that were read and opened.")

_LOOK_SECONDS = 10.0
_SWEEP_SECONDS = 60.0
"""As long as a key that another process destroyed may live in this one."""


_MOST_SMALL_BLOCKS = 16
"""Each costs every search some look-ups; to join them costs a sort of all their terms."""


class _Open:
    """What is open of one store."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.packs: dict[str, tuple[str, Part | None]] = {}
        """By path: the e-tag, and which part of a block a pack is. One that does not open is none, and is not tried
        again."""

        self.blocks: list[Block] = []
        self.bundles: dict[str, Mapping[Part, str]] = {}
        """What bundles have, by their ids: parts of packs that had these e-tags. One that does not open has nothing."""

        self.looked_at: float | None = None
        self.holdings = Holdings()
        self.is_whole = False
        """Whether all that it holds was opened as far as it opens."""

        self.is_settled = False
        """Whether there was nothing to bundle when it was planned last."""

    @property
    def held_bytes(self) -> int:
        return sum(block.held_bytes for block in self.blocks)

    def drop(self, paths: Sequence[str]) -> None:
        """Drops packs, and what was read of them."""
        gone = {part for path in paths if (part := self.packs.pop(path)[1]) is not None}
        if gone:
            self.blocks = [kept for block in self.blocks if (kept := block.without(gone)) is not None]
            # Whoever removed the packs has destroyed these.
            self.bundles = {name: parts for name, parts in self.bundles.items() if gone.isdisjoint(parts)}

    def note(self, is_changed: bool) -> None:
        """Says whether what there is was looked at anew."""
        if is_changed:
            self.is_whole = self.is_settled = False

    def keep(self, there: Mapping[str, str]) -> None:
        """Drops packs that are not there any more, by path and e-tag, or were written anew."""
        self.drop([path for path, (e_tag, _) in self.packs.items() if there.get(path) != e_tag])


class OpenStores:
    """The open stores of all tenants.

    Args:
        packs: Where they are read from.
        keyring: Of the retriever.
        most_bytes: Of all blocks together. A store that has more by itself is open while it is searched.
    """

    def __init__(self, packs: Packs, keyring: Keyring, *, most_bytes: int) -> None:
        self._packs = packs
        self._keyring = keyring
        self._keys = PassageKeyring(keyring)
        self._most_bytes = most_bytes
        self._stores: OrderedDict[tuple[str, Place], _Open] = OrderedDict()
        self._filled: set[tuple[str, Place]] = set()

    def note_filled(self, tenant: str, place: Place) -> None:
        """Says that packs were written into a store's edition: it is opened with the next sweep if they are many."""
        self._filled.add((tenant, place))

    async def blocks(self, tenant: str, place: Place, key: DataKey, *, fresh: bool) -> list[Block]:
        """What there is of a store in one edition.

        Args:
            tenant: Whose the store is.
            place: Of the store's edition.
            key: The store's key.
            fresh: Look for what was written just now.
        """
        name = (tenant, place)
        store = self._stores.setdefault(name, _Open())
        self._stores.move_to_end(name)
        async with store.lock:
            if fresh or store.looked_at is None or time.monotonic() - store.looked_at >= _LOOK_SECONDS:
                await self._look(tenant, place, key, store)
            blocks = list(store.blocks)
        self._make_room()
        return blocks

    def forget(self, tenant: str, place: Place, attachment_id: str | None = None) -> None:
        """Drops what is open of a store's edition, or of an attachment in it."""
        store = self._stores.get((tenant, place))
        if store is None:
            return
        if attachment_id is None:
            del self._stores[tenant, place]
        else:
            store.note(True)
            store.drop(
                [
                    path
                    for path, (_, part) in store.packs.items()
                    if part is not None and part.owner.attachment_id == attachment_id
                ]
            )
        self._make_room()

    async def run(self) -> None:
        """Drops what is gone, for as long as the process lives."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Drops what is gone now, and has many small packs bundled. A store that cannot be looked up is dropped whole:
        it is read again when needed."""
        filled, self._filled = self._filled, set()
        for tenant, place in dict.fromkeys([*self._stores, *filled]):
            name = (tenant, place)
            if name not in self._stores and name not in filled:
                continue  # it made room for one before
            try:
                key = await place_key(self._keyring, tenant, place.store_id)
                store = None if key is None else await self._sweep(tenant, place, key)
            except (Unavailable, VaultError):
                self.forget(tenant, place)
                self._filled |= filled & {name}  # and tried again with the next sweep
                continue
            if key is None or store is None:
                self.forget(tenant, place)
                continue
            try:
                await self._bundle(tenant, place, key, store)
            except (Unavailable, VaultError):
                log.warning("packs_not_bundled", store=place.store_id)
                self._filled |= filled & {name}
        self._make_room()

    async def _sweep(self, tenant: str, place: Place, key: DataKey) -> _Open:
        """Drops what is gone of a store's edition, and has its register written; what is open of it."""
        store = self._stores.get((tenant, place)) or _Open()
        async with store.lock:
            store.note(await self._packs.register.write(tenant, place.name, key, store.holdings))
            if not store.is_whole:
                store.keep({one.path: one.e_tag for one in store.holdings.all})
        return store

    async def _bundle(self, tenant: str, place: Place, key: DataKey, store: _Open) -> None:
        """Brings the bundles of a store's edition up to date, by one step."""
        if store.is_settled:
            return
        names = names_of(store.holdings.all)
        small = {part: name.e_tag for name in names if is_small(part := _part(tenant, place, name))}
        if len(small) <= FEW_LOOSE:
            return
        if (tenant, place) not in self._stores:
            self._stores[tenant, place] = store
            self._stores.move_to_end((tenant, place), last=False)  # nobody has searched it: it goes first
        bundles = self._packs.bundles
        await bundles.tidy(tenant, place.name)
        async with store.lock:
            await self._look(tenant, place, key, store)
            await self._look_at_bundles(tenant, place, key, store)
            blocks = list(store.blocks)
        self._make_room()
        # Where a model came to give vectors of another length under its name, a bundle still has those of one.
        length = max((block.vectors.shape[1] for block in blocks), default=0)
        can_copy = {part for block in blocks if block.vectors.shape[1] == length for part in block.parts}
        plan = planned(small, can_copy, store.bundles, size=lambda part: part.passages, most=MOST_PASSAGES)
        store.is_settled = not plan.groups
        for group in plan.groups:
            written = await self._write_bundle(tenant, place, key, blocks, group)
            if written is None:
                return  # what was there has changed: the next sweep plans anew
            store.bundles[written] = group
        await bundles.remove(tenant, place.name, "packs", plan.merged | plan.useless)

    async def _write_bundle(
        self, tenant: str, place: Place, key: DataKey, blocks: Sequence[Block], tags: Mapping[Part, str]
    ) -> str | None:
        def content() -> bytes | None:
            block = Block.only(blocks, tags.keys())
            return None if block is None or len(block.parts) < len(tags) else encoded(block, tags)

        async def is_current() -> bool:
            there = {_part(tenant, place, one): one.e_tag for one in await self._packs.list(tenant, place.name)}
            return tags.items() <= there.items()

        copied = await asyncio.to_thread(content)
        if copied is None:
            return None
        of = {part.owner.attachment_id for part in tags}
        return await self._packs.bundles.write(tenant, place.name, "packs", key, copied, of=of, is_current=is_current)

    async def _look_at_bundles(self, tenant: str, place: Place, key: DataKey, store: _Open) -> list[Copies]:
        """Opens the bundles that are new, and forgets those that are gone."""
        bundles = self._packs.bundles
        there = await bundles.list(tenant, place.name, "packs")
        names = edition_keys(key, place.edition).names

        async def read(bundle_id: str) -> Copies | None:
            try:
                content = await bundles.read(tenant, place.name, "packs", bundle_id, key)
                copies = (
                    None if content is None else await asyncio.to_thread(opened_copies, content, tenant, place, names)
                )
            except VaultError:
                log.error("bundle_did_not_open", store=place.store_id, bundle=bundle_id)
                copies = None
            store.bundles[bundle_id] = {} if copies is None else copies.tags
            return copies

        read_now = await each(read, [one for one in there if one not in store.bundles])
        store.bundles = {name: parts for name, parts in store.bundles.items() if name in there}
        return [copies for copies in read_now if copies is not None]

    async def _look(self, tenant: str, place: Place, key: DataKey, store: _Open) -> None:
        """Opens what is new and drops what is gone."""
        looked_at = time.monotonic()
        store.note(await self._packs.register.refresh(tenant, place.name, key, store.holdings))
        if not store.is_whole:
            store.is_whole = True  # unless something is removed meanwhile
            try:
                await self._open(tenant, place, key, store)
            except BaseException:
                store.is_whole = False
                raise
        store.looked_at = looked_at

    async def _open(self, tenant: str, place: Place, key: DataKey, store: _Open) -> None:
        names = names_of(store.holdings.all)
        store.keep({name.path: name.e_tag for name in names})
        new = [name for name in names if name.path not in store.packs]
        if len(new) > FEW_LOOSE:
            new = await self._out_of_bundles(tenant, place, key, store, new)
        keys: dict[str, PassageKeys] = {}
        for file_id in {name.file_id for name in new}:
            found = await self._keys.get(tenant, key, file_id, place.edition)
            if found is not None:
                keys[file_id] = found

        async def read(name: PackName) -> None:
            if name.file_id not in keys:
                return  # its file is being deleted
            data = await self._packs.read(name)
            if data is not None:
                owner = _part(tenant, place, name).owner
                block = await asyncio.to_thread(_opened, keys[name.file_id], owner, name, data)
                store.packs[name.path] = (name.e_tag, None if block is None else block.parts[0])
                if block is not None:
                    store.blocks.append(block)

        await each(read, new)
        await _join(store)

    async def _out_of_bundles(
        self, tenant: str, place: Place, key: DataKey, store: _Open, new: Sequence[PackName]
    ) -> list[PackName]:
        """Opens as many of the packs as bundles have; those that none has."""
        if not store.packs:
            store.bundles = {}  # nothing of them is open
        wanted = {name.passages_of: name for name in new}
        for copies in await self._look_at_bundles(tenant, place, key, store):
            other: set[Part] = set()
            for part, tag in copies.tags.items():
                of = (part.owner.attachment_id, part.owner.file_id, part.first, part.passages)
                name = wanted.get(of)
                if name is None or name.e_tag != tag:
                    other.add(part)
                else:
                    store.packs[name.path] = (tag, part)
                    del wanted[of]
            block = await asyncio.to_thread(copies.block.without, other) if other else copies.block
            if block is not None:
                store.blocks.append(block)
        return list(wanted.values())

    def _make_room(self) -> None:
        held = {name: store.held_bytes for name, store in self._stores.items()}
        total = sum(held.values())
        for name, size in held.items():
            if total <= self._most_bytes:
                break
            del self._stores[name]
            total -= size
        _HELD.set(total)


def _part(tenant: str, place: Place, name: PackName) -> Part:
    owner = PassageOwner(tenant, place.store_id, name.file_id, name.attachment_id, place.edition)
    return Part(owner, name.first, name.passages)


async def _join(store: _Open) -> None:
    """Makes blocks of many small ones."""
    small = [block for block in store.blocks if 2 * len(block) <= MOST_PASSAGES]
    if len(small) <= _MOST_SMALL_BLOCKS:
        return
    groups: list[list[Block]] = []
    for block in sorted(small, key=lambda one: one.vectors.shape[1]):
        last = groups[-1] if groups else None
        if (
            last is None
            or last[0].vectors.shape[1] != block.vectors.shape[1]
            or sum(map(len, last)) + len(block) > MOST_PASSAGES
        ):
            groups.append(last := [])
        last.append(block)
    joined = await asyncio.to_thread(lambda: [Block.joined(group) for group in groups])
    # Whoever removed passages meanwhile has changed the blocks: then they are joined at the next look.
    there, old = set(store.blocks), set(small)
    if old <= there:
        store.blocks = [*(block for block in store.blocks if block not in old), *joined]


def _opened(keys: PassageKeys, owner: PassageOwner, name: PackName, data: bytes) -> Block | None:
    _READ.inc()
    try:
        block = opened(keys, owner, name.first, data)
        if len(block) == name.passages:
            return block
    except VaultError:
        pass
    DROPPED.labels("did_not_open").inc(name.passages)
    log.error("pack_did_not_open", store=owner.store_id, attachment=owner.attachment_id, first=name.first)
    return None
