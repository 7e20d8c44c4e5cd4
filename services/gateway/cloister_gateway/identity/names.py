"""Names that people give to projects, accounts and keys: sealed, since they can tell who uses what for what."""

from cloister_common.vault import DataKey, Keyring, VaultError, encode_context, open_record, seal

__all__ = ["Names"]

_KIND = "identity"


class Names:
    """Seals names under a key of the project (or organization) they belong to."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def seal(self, owner: str, object_id: str, name: str) -> bytes:
        """Seals ``name`` as that of ``object_id``."""
        return seal((await self._key(owner)).subkey("names"), name.encode(), _context(owner, object_id))

    async def open(self, owner: str, object_id: str, sealed: bytes) -> str:
        """Opens the sealed name of ``object_id``.

        Raises:
            VaultError: It is not this owner's and object's.
        """
        return open_record((await self._key(owner)).subkey("names"), sealed, _context(owner, object_id)).decode()

    async def _key(self, owner: str) -> DataKey:
        key = await self._keyring.get(owner, _KIND, owner)
        if key is None:
            try:
                key = await self._keyring.create(owner, _KIND, owner)
            except VaultError:
                # Another gateway made it in between: take that one.
                key = await self._keyring.get(owner, _KIND, owner)
        if key is None:
            raise VaultError
        return key


def _context(owner: str, object_id: str) -> bytes:
    return encode_context("identity-name", owner, object_id)
