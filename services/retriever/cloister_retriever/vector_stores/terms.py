"""The words of vector stores: the sealed postings of their attachments, and what of them is open in memory.

Those of many small files are read out of bundles, as far as there are any. Those are written once a minute, by whoever
has the words of a store open or has just written some.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence, Set

from cloister_common.errors import Unavailable
from cloister_common.logs import get_logger
from cloister_common.vault import DataKey, Keyring, VaultError, encode_context, open_record, seal
from prometheus_client import Gauge

from cloister_retriever.editions import Place
from cloister_retriever.keys import VECTOR_STORE
from cloister_retriever.storage.bundles import Bundles
from cloister_retriever.storage.bundling import FEW_LOOSE, planned
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.objects import ListedObject, Objects, each
from cloister_retriever.storage.register import Holdings, Register
from cloister_retriever.terms.copies import Copy, encoded, opened
from cloister_retriever.terms.postings import Postings
from cloister_retriever.terms.store import Segment, StoreWords

__all__ = ["Words"]

log = get_logger(__name__)
_HELD = Gauge("cloister_words_bytes", "Bytes that are open of the words of vector stores.")
_TOO_LARGE = Gauge("cloister_words_too_large", "Vector stores that are searched by meaning alone: too large for more.")

_SWEEP_SECONDS = 60.0
_SMALL_BYTES = 64 * 1024
"""What has more is worth a read of its own."""

_BUNDLE_BYTES = 8 * 1024 * 1024
"""Read in a moment, and not too much to write again when one file of it goes."""

_LOOK_SECONDS = 10.0
"""So long may the words of a file that was taken out of a store count in it."""


class _Open:
    """The words of one store."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.words = StoreWords()
        self.tags: dict[str, str] = {}
        """Of what is open, by attachment: another one when it was written anew."""
        self.grown_at = 0.0
        self.looked_at: float | None = None
        self.holdings = Holdings()
        self.is_whole = False
        """Whether all that there is was opened."""


class Words:
    """Writes the words of attachments, and opens those of a store.

    Args:
        objects: The object store.
        keyring: Of the retriever.
        most_bytes: Of what is open of all stores together. A store with more by itself has no words: its passages are
            found by their meaning alone, which the log and a metric say.
    """

    def __init__(self, objects: Objects, keyring: Keyring, *, most_bytes: int) -> None:
        self._objects = objects
        self._keyring = keyring
        self._most_bytes = most_bytes
        self._stores: OrderedDict[tuple[str, Place], _Open] = OrderedDict()
        self._too_large: set[tuple[str, Place]] = set()
        self._bundles = Bundles(objects, keyring)
        self._register = Register(objects, keyring, "words")
        self._bundled: dict[tuple[str, Place], dict[str, Mapping[str, str]]] = {}
        """What bundles have, by their ids: attachments whose words had these e-tags."""
        self._filled: set[tuple[str, Place]] = set()

    async def write(self, tenant: str, place: Place, attachment_id: str, key: DataKey, postings: Postings) -> None:
        """Keeps the words of an attachment. They go with what else its ingestion left."""
        path = (await tenant_paths(self._keyring, tenant)).words_of(place.name, attachment_id)
        sealed = await asyncio.to_thread(
            lambda: seal(key.subkey("terms"), postings.encoded(), _context(tenant, place, attachment_id))
        )
        await self._objects.put(path, sealed)
        await self._register.note(tenant, place.name, attachment_id)
        self._filled.add((tenant, place))

    async def there(self, tenant: str, place: Place) -> set[str]:
        """The attachments whose words there are: of each they are written last, so all else of it is there too."""
        paths = await tenant_paths(self._keyring, tenant)
        return {one.leaf for one in await self._objects.list(paths.words(place.name))}

    async def has(self, tenant: str, place: Place, attachment_id: str) -> bool:
        """Whether those of an attachment are there."""
        path = (await tenant_paths(self._keyring, tenant)).words_of(place.name, attachment_id)
        return await self._objects.size(path) is not None

    async def remove(self, tenant: str, place: Place, attachment_id: str | None = None) -> None:
        """Removes those of an attachment, or of a whole edition."""
        paths = await tenant_paths(self._keyring, tenant)
        if attachment_id is None:
            await self._objects.delete_all(paths.words(place.name))
        else:
            await self._objects.delete(paths.words_of(place.name, attachment_id))
        await self._register.removed(tenant, place.name, attachment_id)
        await self._bundles.drop(tenant, place.name, attachment_id)

    async def of(self, tenant: str, place: Place, key: DataKey, grown_at: float) -> StoreWords:
        """Those of an edition of a store that last grew at ``grown_at`` (seconds since the epoch)."""
        name = (tenant, place)
        store = self._stores.setdefault(name, _Open())
        self._stores.move_to_end(name)
        async with store.lock:
            is_old = store.looked_at is None or time.monotonic() - store.looked_at >= _LOOK_SECONDS
            if is_old or store.grown_at != grown_at:
                looked_at = time.monotonic()
                await self._look(tenant, place, key, store)
                store.grown_at, store.looked_at = grown_at, looked_at
        self._make_room()
        return store.words

    async def _look(self, tenant: str, place: Place, key: DataKey, store: _Open) -> None:
        """Opens what is new; all anew where something is gone."""
        if await self._register.refresh(tenant, place.name, key, store.holdings):
            store.is_whole = False
        if not store.is_whole:
            await self._open(tenant, place, key, store)
            store.is_whole = True

    async def _open(self, tenant: str, place: Place, key: DataKey, store: _Open) -> None:
        listed = store.holdings.all
        if not self._fits((tenant, place), sum(one.size for one in listed)):
            store.words, store.tags = StoreWords(), {}
            return
        there = {one.leaf: one.e_tag for one in listed}
        if not store.tags.items() <= there.items():
            store.words, store.tags = StoreWords(), {}

        segments, new = await self._out_of_bundles(tenant, place, key, there, there.keys() - store.tags.keys())

        async def read(attachment_id: str) -> Segment | None:
            encoded = await self._read(tenant, place, key, attachment_id)
            return None if encoded is None else await asyncio.to_thread(_segment, attachment_id, encoded)

        segments += [segment for segment in await each(read, sorted(new)) if segment is not None]
        if segments:
            store.words = await asyncio.to_thread(StoreWords, [*store.words.segments, *segments])
        store.tags = there

    async def _read(self, tenant: str, place: Place, key: DataKey, attachment_id: str) -> bytes | None:
        """The words of an attachment, encoded; None if they are gone or do not open."""
        paths = await tenant_paths(self._keyring, tenant)
        sealed = await self._objects.get(paths.words_of(place.name, attachment_id))
        if sealed is None:
            return None
        try:
            return await asyncio.to_thread(
                open_record, key.subkey("terms"), sealed, _context(tenant, place, attachment_id)
            )
        except VaultError:
            _did_not_open(attachment_id)
            return None

    async def _out_of_bundles(
        self, tenant: str, place: Place, key: DataKey, there: Mapping[str, str], new: Set[str]
    ) -> tuple[list[Segment], Set[str]]:
        """The words of as many of the attachments as bundles have, and those that none has."""
        segments: list[Segment] = []
        if len(new) <= FEW_LOOSE:
            return segments, new
        for bundle_id in await self._bundles.list(tenant, place.name, "words"):
            copies = await self._copies(tenant, place, key, bundle_id)
            wanted = {name: copy for name, copy in copies.items() if name in new and there[name] == copy.tag}
            found = await asyncio.to_thread(lambda of: [_segment(name, of[name].data) for name in of], wanted)
            segments += [segment for segment in found if segment is not None]
            new = new - wanted.keys()
        return segments, new

    async def _copies(self, tenant: str, place: Place, key: DataKey, bundle_id: str) -> dict[str, Copy]:
        try:
            content = await self._bundles.read(tenant, place.name, "words", bundle_id, key)
            return {} if content is None else opened(content)
        except VaultError:
            log.error("bundle_did_not_open", store=place.store_id, bundle=bundle_id)
            return {}

    async def run(self) -> None:
        """Has the words of many small files bundled, for as long as the process lives."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Brings the bundles of what is open, and of what was written, up to date by one step."""
        filled, self._filled = self._filled, set()
        # Of stores of few files there may be tens of thousands open: nothing is asked for those.
        many = [name for name, store in self._stores.items() if len(store.tags) > FEW_LOOSE]
        names = dict.fromkeys([*many, *filled])
        self._bundled = {name: has for name, has in self._bundled.items() if name in names}
        for tenant, place in names:
            try:
                key = await self._keyring.get(tenant, VECTOR_STORE, place.store_id)
                if key is not None:
                    await self._bundle(tenant, place, key, await self._registered(tenant, place, key))
            except (Unavailable, VaultError):
                log.warning("words_not_bundled", store=place.store_id)
                self._filled |= filled & {(tenant, place)}  # and tried again with the next sweep

    async def _registered(self, tenant: str, place: Place, key: DataKey) -> list[ListedObject]:
        """The words there are, after their register was brought up to date."""
        store = self._stores.get((tenant, place)) or _Open()
        async with store.lock:
            if await self._register.write(tenant, place.name, key, store.holdings):
                store.is_whole = False
            return store.holdings.all

    async def _bundle(self, tenant: str, place: Place, key: DataKey, there_are: Sequence[ListedObject]) -> None:
        paths = await tenant_paths(self._keyring, tenant)
        folder = paths.words(place.name)
        listed = [one for one in there_are if one.size <= _SMALL_BYTES]
        if len(listed) <= FEW_LOOSE:
            return
        await self._bundles.tidy(tenant, place.name)
        ids = await self._bundles.list(tenant, place.name, "words")
        known = self._bundled.get((tenant, place), {})
        bundled: dict[str, Mapping[str, str]] = {}
        for one in ids:
            if one not in known:
                copies = await self._copies(tenant, place, key, one)
                bundled[one] = {name: copy.tag for name, copy in copies.items()}
            else:
                bundled[one] = known[one]
        there = {one.leaf: one.e_tag for one in listed}
        sizes = {one.leaf: one.size for one in listed}
        plan = planned(there, there.keys(), bundled, size=sizes.__getitem__, most=_BUNDLE_BYTES)
        self._bundled[tenant, place] = bundled

        for group in plan.groups:
            read = await each(lambda name: self._read(tenant, place, key, name), group)
            copies = {
                name: Copy(tag, data)
                for (name, tag), data in zip(group.items(), read, strict=True)
                if data is not None  # else it does not open, or is gone
            }
            tags = {name: copy.tag for name, copy in copies.items()}
            if not copies:
                continue

            async def is_current(tags: Mapping[str, str] = tags) -> bool:
                return tags.items() <= {one.leaf: one.e_tag for one in await self._objects.list(folder)}.items()

            written = await self._bundles.write(
                tenant, place.name, "words", key, encoded(copies), of=tags, is_current=is_current
            )
            if written is None:
                return  # what was there has changed: the next sweep plans anew
            bundled[written] = tags
        await self._bundles.remove(tenant, place.name, "words", plan.merged | plan.useless)

    def _fits(self, name: tuple[str, Place], size: int) -> bool:
        if size <= self._most_bytes:
            self._too_large.discard(name)
        elif name not in self._too_large:
            self._too_large.add(name)
            log.warning(
                "search_by_meaning_alone", store=name[1].store_id, words_bytes=size, most_bytes=self._most_bytes
            )
        _TOO_LARGE.set(len(self._too_large))
        return name not in self._too_large

    def _make_room(self) -> None:
        held = {name: store.words.held_bytes for name, store in self._stores.items()}
        total = sum(held.values())
        for name, size in held.items():
            if total <= self._most_bytes:
                break
            del self._stores[name]
            total -= size
        _HELD.set(total)


def _segment(attachment_id: str, data: bytes) -> Segment | None:
    try:
        postings = Postings.decoded(data)
    except VaultError:
        _did_not_open(attachment_id)
        return None
    return Segment(postings, [(attachment_id, postings.passages)])


def _did_not_open(attachment_id: str) -> None:
    """Its passages are found by their meaning, as those are whose words were never taken."""
    log.error("record_did_not_open", kind=Postings.__name__, id=attachment_id)


def _context(tenant: str, place: Place, attachment_id: str) -> bytes:
    return encode_context("words", tenant, place.name, attachment_id)
