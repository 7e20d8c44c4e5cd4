"""Where the root key is: behind one small protocol, so that a file, Vault Transit or a cloud KMS look the same."""

from pathlib import Path
from typing import Protocol

from cloister_common.settings import SettingsError, read_secret
from cloister_common.vault.encoding import encode_context
from cloister_common.vault.record import derive, open_record, seal

__all__ = ["FileRootKey", "RootKeyProvider"]


class RootKeyProvider(Protocol):
    """Wraps and unwraps tenant keys. The root key itself never leaves the provider."""

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        """Encrypts a tenant key, bound to ``context``."""
        ...

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Decrypts a tenant key. Raises `VaultError` if key or context are not the ones it was wrapped with."""
        ...


class FileRootKey:
    """A root key in a file: 64 hexadecimal digits (32 bytes), in a cluster a mounted Secret."""

    def __init__(self, path: Path) -> None:
        text = read_secret(path, what="the vault's root key", min_bytes=64)
        try:
            key = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            key = b""
        if len(key) != 32 or len(set(key)) < 8:
            raise SettingsError(
                f"The vault's root key in {path} must be 64 random hexadecimal digits: openssl rand -hex 32 > {path}"
            )
        self._key = derive(key, "root-wrap")

    async def wrap(self, key: bytes, context: bytes) -> bytes:
        return seal(self._key, key, encode_context("wrapped-by-root", context))

    async def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return open_record(self._key, wrapped, encode_context("wrapped-by-root", context))
