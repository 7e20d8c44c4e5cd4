"""Where wrapped keys lie: Redis for the gateway, the object store for the retriever. Values are sealed already."""

from collections.abc import AsyncIterator
from typing import Protocol

__all__ = ["KeyStore", "MemoryKeyStore"]


class KeyStore(Protocol):
    """Wrapped keys by name. Names hold kinds, random ids and numbers only; what was written is durable."""

    async def get(self, name: str) -> bytes | None:
        """The wrapped key called ``name``, or None."""
        ...

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        """Stores durably unless there is one already; says whether it stored."""
        ...

    async def replace(self, name: str, expected: bytes, wrapped: bytes) -> bool:
        """Stores ``wrapped`` in the place of ``expected``; says whether it did.

        It does not if anything else stands there, or nothing: what was destroyed meanwhile does not come back.
        """
        ...

    async def delete(self, name: str) -> None:
        """Removes it; no error if there is none."""
        ...

    def names(self, prefix: str) -> AsyncIterator[str]:
        """The names that begin with ``prefix``, in any order; what changes meanwhile may be there or not, or twice.

        Where tenants must not be seen, those of their keys are left out.
        """
        ...


class MemoryKeyStore:
    """A key store in memory, for tests."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, name: str) -> bytes | None:
        return self.values.get(name)

    async def put_if_absent(self, name: str, wrapped: bytes) -> bool:
        return self.values.setdefault(name, wrapped) is wrapped

    async def replace(self, name: str, expected: bytes, wrapped: bytes) -> bool:
        if self.values.get(name) != expected:
            return False
        self.values[name] = wrapped
        return True

    async def delete(self, name: str) -> None:
        self.values.pop(name, None)

    async def names(self, prefix: str) -> AsyncIterator[str]:
        for name in list(self.values):
            if name.startswith(prefix):
                yield name
