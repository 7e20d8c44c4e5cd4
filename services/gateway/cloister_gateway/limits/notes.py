"""What tells of a generation to the gateway that finds it lost: whose it was, and the most it may have used.

It lies beside what the generation has reserved until that is settled. Whom it is for and what it asks of which model is
sealed, once for all generations of which that is the same: sealing took as long as all the rest of a decision. Ids,
times and counts stand in the clear, as those that are reserved do.
"""

import base64

import orjson
from cloister_common.vault import DataKey, Keyring, VaultError, encode_context, open_record, seal
from cloister_common.vault.cache import ShortCache

from cloister_gateway.storage.layout import LIMITS
from cloister_gateway.usage import Generation, Used
from cloister_gateway.usage.records import KINDS

__all__ = ["Notes", "note_of"]

_SECONDS_KNOWN, _MOST_KNOWN = 3600.0, 20_000


class Notes:
    """Writes and reads notes: ``PROJECT SEALED ID BEGUN READ WRITTEN``.

    Args:
        keyring: Has the keys of projects.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._sealed: ShortCache[str] = ShortCache(seconds=_SECONDS_KNOWN, most=_MOST_KNOWN)

    async def write(self, generation: Generation, *, read: int, written: int) -> str:
        """The note of a generation that may use so many tokens at most."""
        return note_of(await self.whose(generation), generation, read, written)

    async def read(self, note: str) -> tuple[Generation, Used]:
        """The generation, and what it counts as.

        Raises:
            VaultError: It is not what was written; or a later version wrote it, beside which this one still runs, with
                what this one does not know.
        """
        try:
            return await self._read(note)
        except (TypeError, ValueError) as error:
            raise VaultError from error

    async def _read(self, note: str) -> tuple[Generation, Used]:
        project, sealed, *told = note.split(" ")
        key = await self._key(project)
        value = orjson.loads(open_record(key.subkey("notes"), base64.b64decode(sealed), _context(project)))
        if told:
            name, begun, read, written = told[0], *(int(number) for number in told[1:])
            key_id, model, kind, user, is_batch = value
        else:
            # (The version before sealed all of it, and the one before that knew no batches.)
            name, key_id, model, kind, user, begun, read, written, *batch = value
            is_batch = batch == [True]
        if kind not in KINDS:
            raise ValueError(f"a generation of the kind {kind!r}")
        generation = Generation(name, project, key_id, model, kind, user, begun, is_batch)
        return generation, Used(read, 0, written, exact=False)

    async def whose(self, generation: Generation) -> str:
        """What the notes of all generations of the same caller, model and kind begin with."""
        one = generation
        place = "\0".join((one.tenant, one.key_id, one.model, one.kind, one.user, str(one.batch)))
        found = self._sealed.get(place)
        if found is None:
            key = await self._key(one.tenant)
            value = [one.key_id, one.model, one.kind, one.user, one.batch]
            sealed = seal(key.subkey("notes"), orjson.dumps(value), _context(one.tenant))
            found = f"{one.tenant} {base64.b64encode(sealed).decode()}"
            self._sealed.put(place, found)
        return found

    async def _key(self, project: str) -> DataKey:
        return await self._keyring.obtain(project, LIMITS, project)


def note_of(whose: str, generation: Generation, read: int, written: int) -> str:
    """The note of a generation that may use so many tokens at most; ``whose`` is what `Notes.whose` says of it."""
    return f"{whose} {generation.id} {generation.begun} {read} {written}"


def _context(project: str) -> bytes:
    return encode_context("limits-note", project)
