"""What proves who calls: API keys (`cloister_gateway.identity.api_keys`), and what may come to stand beside them.

A verifier says which tokens are its own, judges them by what is stored, and says later which of those it let in have
ended since. Everything around it is the same for all of them: what is remembered, watched and written of use.
"""

from collections.abc import Collection
from typing import Protocol

from cloister_gateway.identity.principal import CredentialKind, Principal

__all__ = ["Verifier"]


class Verifier(Protocol):
    """Judges the credentials of one kind."""

    @property
    def kind(self) -> CredentialKind:
        """The kind of the credentials of those it lets in."""
        ...

    def reads(self, token: str) -> bool:
        """Whether ``token`` has the form that this verifier judges. The first that says so is the only one asked."""
        ...

    async def verify(self, token: str) -> Principal:
        """The caller that ``token`` proves.

        Raises:
            Unauthenticated: It proves nobody, or nobody any more.
        """
        ...

    async def ended(self, principals: Collection[Principal]) -> Collection[Principal]:
        """Those of ``principals`` (all let in by this verifier) whose credential holds no more."""
        ...
